//! `tmmctl get`.

use config::State;
use config::client::{Get, ObjectLine, Request, Response};
use config::resource::Identity;
use serde_json::{Value, json};

use crate::args::{GetArgs, GetOutput, Global};
use crate::error::Error;
use crate::link::Link;
use crate::table::{self, Heading};
use crate::ui::{Tone, Ui};
use crate::{OK, kinds, manifests};

pub fn run(global: &Global, args: &GetArgs, ui: &mut Ui<'_>) -> Result<u8, Error> {
    let wanted = selection(args)?;
    let mut link = Link::open(global)?;
    let objects = fetch(&mut link, &wanted)?;
    if objects.is_empty()
        && let Some(name) = &wanted.name
    {
        let namespace = wanted.namespace.as_deref().unwrap_or_default();
        let kind = wanted.kind.as_deref().unwrap_or("object");
        let label = manifests::name(kind, namespace, name);
        return Err(Error::Usage(format!("{label} not found")));
    }
    match args.output {
        GetOutput::Table => {
            if objects.is_empty() {
                return nothing(&wanted, ui);
            }
            print_table(&objects, ui)?;
        }
        GetOutput::Name => {
            for object in &objects {
                let label = manifests::label(&Identity::of(&object.object));
                ui.line(Tone::Plain, label)?;
            }
        }
        GetOutput::Json => {
            let value = match (objects.as_slice(), &wanted.name) {
                ([one], Some(_)) => one.object.clone(),
                (all, _) => {
                    let items: Vec<&Value> = all.iter().map(|line| &line.object).collect();
                    json!({"apiVersion": "v1", "kind": "List", "items": items})
                }
            };
            // A `Value` has no keys that are not strings, so this cannot fail.
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            ui.write(text.as_bytes())?;
            ui.write(b"\n")?;
        }
        GetOutput::Yaml => {
            for (index, object) in objects.iter().enumerate() {
                if index > 0 {
                    ui.write(b"---\n")?;
                }
                let text = serde_saphyr::to_string(&object.object)
                    .map_err(|error| Error::Usage(format!("cannot write as YAML: {error}")))?;
                ui.write(text.as_bytes())?;
            }
        }
    }
    Ok(OK)
}

/// What the arguments select: `KIND`, `KIND NAME`, `KIND/NAME` or `KIND/NAMESPACE/NAME`.
fn selection(args: &GetArgs) -> Result<Get, Error> {
    let kind = args.kind.as_deref().unwrap_or("all");
    let parts: Vec<&str> = kind.split('/').collect();
    let mut wanted = Get {
        namespace: (!args.all_namespaces).then(|| args.namespace.clone()),
        name: args.name.clone(),
        ..Get::default()
    };
    let kind = match (parts.as_slice(), &args.name) {
        ([kind], _) => kind,
        ([kind, name], None) => {
            wanted.name = Some((*name).to_owned());
            kind
        }
        ([kind, namespace, name], None) => {
            wanted.namespace = Some((*namespace).to_owned());
            wanted.name = Some((*name).to_owned());
            kind
        }
        _ => {
            let message = format!("\"{kind}\" is not KIND or KIND/NAMESPACE/NAME");
            return Err(Error::Usage(message));
        }
    };
    wanted.kind = (*kind != "all").then(|| kinds::full_name(kind));
    Ok(wanted)
}

/// All pages.
fn fetch(link: &mut Link, wanted: &Get) -> Result<Vec<ObjectLine>, Error> {
    let mut objects = Vec::new();
    let mut page = wanted.clone();
    loop {
        link.send(&Request::Get(page.clone()))?;
        loop {
            match link.receive()? {
                Response::Object(object) => objects.push(object),
                Response::End { more: None, .. } => return Ok(objects),
                Response::End { more, .. } => {
                    page.after = more;
                    break;
                }
                other => return Err(link.unexpected(other)),
            }
        }
    }
}

fn nothing(wanted: &Get, ui: &mut Ui<'_>) -> Result<u8, Error> {
    let kind = wanted.kind.as_deref().unwrap_or("objects");
    let message = match &wanted.namespace {
        None => format!("no {kind}"),
        Some(namespace) => format!("no {kind} in namespace {namespace} (-A looks in all)"),
    };
    ui.complain(Tone::Plain, message)?;
    Ok(OK)
}

fn print_table(objects: &[ObjectLine], ui: &mut Ui<'_>) -> Result<(), Error> {
    let titles = ["KIND", "NAMESPACE", "NAME", "STATE", "FEEDER", "MESSAGE"];
    let headings = titles.map(|title| Heading {
        title: title.to_owned(),
        right: false,
    });
    let rows = objects.iter().map(|line| {
        let identity = Identity::of(&line.object);
        let (tone, state) = match line.state {
            None => (Tone::Warn, "-".to_owned()),
            Some(State::Programmed) => (Tone::Plain, "Programmed".to_owned()),
            Some(State::Pending) => (Tone::Warn, "Pending".to_owned()),
            Some(State::Error) => (Tone::Bad, "Error".to_owned()),
        };
        let message = line.message.clone().filter(|text| !text.is_empty());
        let cells = vec![
            identity.kind.unwrap_or_default(),
            identity.namespace.unwrap_or_default(),
            identity.name.unwrap_or_default(),
            state,
            line.feeder.clone(),
            message.unwrap_or_else(|| "-".to_owned()),
        ];
        (tone, cells)
    });
    table::print(ui, &headings, rows.collect())
}
