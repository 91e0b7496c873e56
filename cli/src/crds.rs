//! `tmmctl crds`: the custom resource definitions, for a cluster's API server.

use config::{Kind, schema};

use crate::args::CrdsArgs;
use crate::error::Error;
use crate::ui::Ui;
use crate::{OK, kinds};

pub fn run(args: &CrdsArgs, ui: &mut Ui<'_>) -> Result<u8, Error> {
    let custom = || Kind::ALL.into_iter().filter(|kind| kind.is_custom());
    let chosen: Result<Vec<Kind>, Error> = args
        .kinds
        .iter()
        .map(|name| {
            kinds::find(name)
                .filter(|kind| kind.is_custom())
                .ok_or_else(|| {
                    let all: Vec<&str> = custom().map(Kind::name).collect();
                    Error::Usage(format!(
                        "{name} is no kind with a definition (there are {})",
                        all.join(", ")
                    ))
                })
        })
        .collect();
    let mut chosen = chosen?;
    if chosen.is_empty() {
        chosen = custom().collect();
    }
    for kind in chosen {
        ui.write(b"---\n")?;
        ui.write(schema::yaml(kind).as_bytes())?;
    }
    Ok(OK)
}
