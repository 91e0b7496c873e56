//! `tmmctl delete`.

use std::io::Read;

use config::client::{Answer, NO_SUCH_OBJECT, Request};
use serde_json::{Value, json};

use crate::args::{DeleteArgs, Global};
use crate::batch::{self, Item};
use crate::error::Error;
use crate::link::Link;
use crate::ui::{Tone, Ui};
use crate::{FAILED, OK, kinds, manifests};

pub fn run(
    global: &Global,
    args: &DeleteArgs,
    mut stdin: impl Read,
    ui: &mut Ui<'_>,
) -> Result<u8, Error> {
    let (items, bad) = if let Some(kind) = &args.kind {
        (named(kind, args)?, 0)
    } else {
        let files = &args.files;
        let documents = manifests::load(&files.files, files.recursive, &mut stdin)?;
        batch::objects(documents, ui)?
    };
    if items.is_empty() {
        return Ok(FAILED);
    }
    let mut link = Link::open(global)?;
    let (items, requests): (Vec<Item>, Vec<Request>) = items
        .into_iter()
        .map(|(item, object)| {
            let object = identity_only(&object);
            (item, Request::Deleted { object })
        })
        .unzip();
    let mut wrong = bad;
    let mut context = (&mut *ui, &mut wrong);
    batch::exchange(
        &mut link,
        requests,
        &mut context,
        |(ui, wrong), index, answer| {
            let Some(item) = items.get(index) else {
                return Ok(());
            };
            **wrong += usize::from(!told(ui, item, &answer, args.ignore_not_found)?);
            Ok(())
        },
        |_, _| {},
    )?;
    if wrong == 0 {
        return Ok(OK);
    }
    batch::tally(ui, wrong, items.len() + bad, "not deleted")?;
    Ok(FAILED)
}

/// Says what became of an object; whether that is what was asked for.
fn told(ui: &mut Ui<'_>, item: &Item, answer: &Answer, ignore: bool) -> Result<bool, Error> {
    let label = &item.label;
    if !answer.accepted {
        batch::refused(ui, item, &answer.errors)?;
        return Ok(false);
    }
    if answer.note.as_deref() != Some(NO_SUCH_OBJECT) {
        ui.line(Tone::Plain, format!("{label} deleted"))?;
        return Ok(true);
    }
    if !ignore {
        ui.complain(Tone::Bad, format!("{label} not found"))?;
    }
    Ok(ignore)
}

/// What the command line names: `KIND NAME…` or `KIND/NAMESPACE/NAME`.
fn named(kind: &str, args: &DeleteArgs) -> Result<Vec<(Item, Value)>, Error> {
    let paths: Vec<&str> = std::iter::once(kind)
        .chain(args.names.iter().map(String::as_str))
        .collect();
    if paths.iter().any(|path| path.contains('/')) {
        return paths
            .into_iter()
            .map(|path| {
                let parts: Vec<&str> = path.split('/').collect();
                match parts.as_slice() {
                    [kind, name] => Ok(object(kind, &args.namespace, name)),
                    [kind, namespace, name] => Ok(object(kind, namespace, name)),
                    _ => Err(Error::Usage(format!(
                        "\"{path}\" is not KIND/NAMESPACE/NAME"
                    ))),
                }
            })
            .collect();
    }
    if args.names.is_empty() {
        return Err(Error::Usage(format!(
            "which {}? tmmctl delete KIND NAME… (tmmctl get {kind} -A lists them)",
            kinds::full_name(kind)
        )));
    }
    let names = args.names.iter();
    Ok(names
        .map(|name| object(kind, &args.namespace, name))
        .collect())
}

fn object(kind: &str, namespace: &str, name: &str) -> (Item, Value) {
    let kind = kinds::full_name(kind);
    let item = Item {
        label: manifests::name(&kind, namespace, name),
        place: String::new(),
    };
    let object = json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}});
    (item, object)
}

/// The part of an object that says which one it is: the rest may be wrong, or large.
fn identity_only(object: &Value) -> Value {
    let meta = |name| object.get("metadata").and_then(|meta| meta.get(name));
    json!({
        "apiVersion": object.get("apiVersion"),
        "kind": object.get("kind"),
        "metadata": {"namespace": meta("namespace"), "name": meta("name")},
    })
}
