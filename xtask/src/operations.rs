//! The files for operators of relay, checked by the programs that read them.

use std::process::Command;

use crate::shell::{root, run};
use crate::test_tools::{install_hadolint, install_promtool};

pub(crate) fn check() -> Result<(), String> {
    let promtool = install_promtool()?;
    run(Command::new(promtool).args(["check", "rules"]).arg(root().join("docs/relay/alerts.yml")))?;
    // The image is not built: that needs a registry of images.
    let hadolint = install_hadolint()?;
    run(Command::new(hadolint).arg(root().join("crates/motet-relay/Containerfile")))
}
