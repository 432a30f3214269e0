//! Writes the frames of the fixture table as the fuzz target's first corpus: one file per case.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/step");
    fs::create_dir_all(&directory)?;
    let all = xdp_fixtures::cases::all();
    for (index, case) in (0u16..).zip(&all) {
        let input = [&index.to_be_bytes()[..], &case.hit.frame].concat();
        fs::write(directory.join(format!("case-{index:03}")), input)?;
    }
    println!("{} inputs in {}", all.len(), directory.display());
    Ok(())
}
