//! A small disk.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, if this process may mount one.
pub(crate) struct SmallDisk {
    mounted_at: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at)
            .then(|| Self { mounted_at: at.to_owned() })
    }

    pub(crate) fn grow(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}")], &self.mounted_at));
    }

    pub(crate) fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], &self.mounted_at));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount, because the process under test may not have ended yet.
        let unmounted = Command::new("umount").arg("-l").arg(&self.mounted_at).status();
        assert!(unmounted.unwrap().success());
    }
}

fn mount(options: &[&str], at: &Path) -> bool {
    Command::new("mount").args(options).arg(at).output().is_ok_and(|done| done.status.success())
}
