//! A program of a few hundred bytes that only sleeps: the demo's harmless stand-in for malware. It is
//! made here, byte by byte, so that nobody needs to trust or to have a binary.

/// Where the program is loaded.
const LOAD_ADDRESS: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS_BYTES: u64 = 64 + 56;

/// A statically linked ELF executable that waits for signals for ever, with `note` behind its code. None
/// where its machine code is not known for this processor.
pub fn sleeper(note: &str) -> Option<Vec<u8>> {
    let (machine, code) = code()?;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend(2u16.to_le_bytes()); // executable
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [LOAD_ADDRESS + HEADERS_BYTES, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, no sections
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let size = HEADERS_BYTES + (code.len() + note.len()) as u64;
    file.extend(1u32.to_le_bytes()); // load
    file.extend(5u32.to_le_bytes()); // read, execute
    for word in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(note.as_bytes());
    Some(file)
}

#[cfg(target_arch = "x86_64")]
fn code() -> Option<(u16, Vec<u8>)> {
    // again: mov eax, 34 (pause); syscall; jmp again
    Some((62, vec![0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]))
}

#[cfg(target_arch = "aarch64")]
fn code() -> Option<(u16, Vec<u8>)> {
    // again: mov x0..x4, #0; mov x8, #73 (ppoll); svc #0; b again
    let words: [u32; 8] = [
        0xd280_0000,
        0xd280_0001,
        0xd280_0002,
        0xd280_0003,
        0xd280_0004,
        0xd280_0928,
        0xd400_0001,
        0x17ff_fff9,
    ];
    Some((183, words.iter().flat_map(|word| word.to_le_bytes()).collect()))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn code() -> Option<(u16, Vec<u8>)> {
    None
}
