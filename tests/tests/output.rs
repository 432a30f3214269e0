//! Client verbs whose reader has seen enough.

use std::process::Stdio;
use std::time::Duration;
use testbed::{Testbed, binary, require};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_closed_pipe_is_no_failure() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let namespace = testbed.node().namespace();
    let directory = namespace.directory().join("closed-pipe");
    std::fs::create_dir_all(&directory).expect("directory");
    let (socket, bpffs) = (directory.join("api.sock"), format!("/sys/fs/bpf/{}-pipe", namespace.name()));
    let mut server = namespace.command(binary());
    server.arg("dev").arg("--listen").arg(&socket).arg("--state-dir").arg(&directory);
    server.args(["--bpffs", &bpffs, "--flow-capacity", "1024"]);
    let verb = |arguments: &[&str]| {
        let mut command = namespace.command(binary());
        command.arg("--server").arg(&socket).args(arguments);
        command
    };
    let mut server = namespace.spawn(server).expect("server");
    let is_serving = || verb(&["status"]).output().is_ok_and(|output| output.status.success());
    let served = server.wait_until("the API serves", PATIENCE, |_| is_serving());
    let outcomes = served.map(|()| {
        [&["status"][..], &["drops", "--all"], &["get", "tenant", "-o", "json"], &["delete", "tenant", "x"]].map(
            |verb_words| {
                let mut command = verb(verb_words);
                let (reader, writer) = std::io::pipe().expect("pipe");
                drop(reader);
                let output = command.stdout(Stdio::from(writer)).stderr(Stdio::piped()).output().expect("runs");
                (verb_words, output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
            },
        )
    });
    drop(server.kill());
    drop(std::fs::remove_dir_all(&bpffs));
    for (words, code, stderr) in outcomes.expect("the server serves") {
        let expected = if words[0] == "delete" { 3 } else { 0 };
        assert_eq!(code, Some(expected), "{words:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");
    }
}
