//! The eBPF object, as built by `build.rs`.

/// Aligned, as the ELF reader wants it.
#[repr(C, align(32))]
struct Aligned<B: ?Sized>(B);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/switchyard.bpf.o")));

/// The object's bytes.
pub(crate) fn bytes() -> &'static [u8] {
    &OBJECT.0
}
