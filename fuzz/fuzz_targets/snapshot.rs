//! Any bytes as the body of a snapshot, behind a header that fits them: a state, or a refusal. A state that was read
//! is written as bytes that give the same state.

#![no_main]

use engine::State;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

fuzz_target!(|body: &[u8]| {
    let _ = State::decode(body);
    let mut bytes = b"CORDONST\x00\x00\x00\x01".to_vec();
    bytes.extend_from_slice(&Sha256::digest(body));
    bytes.extend_from_slice(body);
    if let Ok(state) = State::decode(&bytes) {
        let again = State::decode(&state.encode()).expect("what was written is read");
        assert_eq!(again.hash(), state.hash());
    }
});
