//! `docs/PROTOCOL.md` is the API table of `tools/wire/src/api.rs`, in words.

use std::path::Path;

#[test]
fn protocol_md_is_what_the_api_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    let expected = highwater_wire::protocol_markdown();
    if std::env::var_os("HIGHWATER_BLESS").is_some() {
        std::fs::write(&path, &expected).expect("docs/PROTOCOL.md can be written");
    }
    let found = std::fs::read_to_string(&path).expect("docs/PROTOCOL.md can be read");
    assert!(
        found == expected,
        "docs/PROTOCOL.md is not what the API table says: run \
         `HIGHWATER_BLESS=1 cargo test -p highwater-tests --test protocol_doc` and commit the file"
    );
}
