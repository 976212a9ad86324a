//! WORKDIR (R-WORKDIR).

use kiln_parser::Workdir;

use super::{Evaluator, go_text, name};
use crate::{FileOp, MkdirOp, Op, code, paths};

impl Evaluator<'_, '_> {
    pub(super) fn workdir(&mut self, workdir: &Workdir) {
        let Some(written) = self.expand(&workdir.value) else {
            return;
        };
        if !written.starts_with('/') && !self.state.workdir_set {
            let message = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                go_text::quoted(&written)
            );
            self.warn(code::WORKDIR_RELATIVE_PATH, message, self.here.span);
        }
        self.state.workdir_set = true;
        let path = resulting_path(self.workdir_path(), &written);
        self.state.config.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        // The root is always there (R-WORKDIR-5).
        if path == "/" {
            return self.metadata(created_by);
        }
        let text = name::shown_expanded(&self.here.text, &self.state.environment);
        let name = self.step_name(&text);
        let owner = self.state.config.config.user.clone();
        let op = Op::File(FileOp::Mkdir(MkdirOp {
            path: paths::clean_rooted(&path),
            owner,
            date: self.builder.date,
        }));
        self.step(op, name, &[self.state.output], created_by);
    }
}

/// Absolute paths are kept to the letter; relative ones are joined and cleaned (R-WORKDIR-2).
fn resulting_path(current: &str, written: &str) -> String {
    match written {
        "" => current.to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => paths::join(current, relative),
    }
}
