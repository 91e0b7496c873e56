//! What an API server says of an object by its definition: schema, formats, rules.
//!
//! With what kubectl asks for by default: fields that are not known are errors.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cel::{Context, Program, Value as Cel};
use config::{Kind, schema};
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::Value;

/// Validators of all custom kinds.
pub struct Api {
    kinds: BTreeMap<&'static str, (Validator, Vec<Rule>)>,
}

struct Rule {
    path: Vec<String>,
    program: Program,
    message: String,
}

impl Api {
    pub fn new() -> Self {
        let custom = Kind::ALL.into_iter().filter(|kind| kind.is_custom());
        let kinds = custom.map(|kind| {
            let mut schema = schema::schema(kind);
            let mut rules = Vec::new();
            close(&mut schema, &mut Vec::new(), &mut rules);
            let validator = jsonschema::options()
                .with_draft(Draft::Draft7)
                .should_validate_formats(true)
                // Any address with a dot or a colon in it: ::10.0.0.1 is both.
                .with_format("ipv4", |text: &str| text.contains('.') && is_ip(text))
                .with_format("ipv6", |text: &str| text.contains(':') && is_ip(text))
                .with_format("cidr", is_cidr)
                .with_format("int32", |_: &str| true)
                .with_format("int64", |_: &str| true)
                .build(&schema)
                .unwrap();
            (kind.name(), (validator, rules))
        });
        Self {
            kinds: kinds.collect(),
        }
    }

    /// Kind and message of every rule.
    pub fn rules(&self) -> Vec<(String, String)> {
        let all = self.kinds.iter();
        all.flat_map(|(kind, (_, rules))| {
            rules
                .iter()
                .map(|rule| ((*kind).to_owned(), rule.message.clone()))
        })
        .collect()
    }

    /// Everything that is wrong.
    pub fn errors(&self, object: &Value) -> Vec<String> {
        let (validator, rules) = &self.kinds[object["kind"].as_str().unwrap()];
        let said = |error: ValidationError<'_>| format!("{}: {error}", error.instance_path());
        // Which fields are unknown is seen while the object is decoded, nulls and all.
        let unknown = validator.iter_errors(object).filter(|error| {
            let kind = error.kind();
            matches!(kind, ValidationErrorKind::AdditionalProperties { .. })
        });
        let unknown: Vec<String> = unknown.map(said).collect();
        let mut object = object.clone();
        prune(&mut object);
        let mut errors: Vec<String> = validator.iter_errors(&object).map(said).collect();
        if errors.is_empty() {
            errors = unknown;
        }
        // As a server does: rules are asked only of what has the right types.
        if errors.is_empty() {
            for rule in rules {
                each(&object, &rule.path, &mut |value| {
                    if !rule.holds(value) {
                        errors.push(rule.message.clone());
                    }
                });
            }
        }
        errors
    }
}

impl Rule {
    fn holds(&self, value: &Value) -> bool {
        let mut context = Context::default();
        context.add_variable_from_value("self", cel(value));
        match self.program.execute(&context) {
            Ok(Cel::Bool(holds)) => holds,
            other => panic!("{}: {other:?}", self.message),
        }
    }
}

/// Fields that are not in the schema are errors; rules are collected.
fn close(schema: &mut Value, path: &mut Vec<String>, rules: &mut Vec<Rule>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        rules.push(Rule {
            path: path.clone(),
            program: Program::compile(rule["rule"].as_str().unwrap()).unwrap(),
            message: rule["message"].as_str().unwrap().to_owned(),
        });
    }
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let metadata = path.last().is_some_and(|name| name == "metadata");
    if schema["type"] == "object" && !open && !metadata {
        schema["additionalProperties"] = false.into();
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            path.push(name.clone());
            close(property, path, rules);
            path.pop();
        }
    }
    if let Some(items) = schema.get_mut("items").filter(|items| items.is_object()) {
        path.push("[]".to_owned());
        close(items, path, rules);
        path.pop();
    }
}

/// A server drops nulls of fields before it looks.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn each(value: &Value, path: &[String], found: &mut dyn FnMut(&Value)) {
    match path.split_first() {
        None => found(value),
        Some((name, rest)) if name == "[]" => {
            for item in value.as_array().into_iter().flatten() {
                each(item, rest, found);
            }
        }
        Some((name, rest)) => {
            if let Some(value) = value.get(name) {
                each(value, rest, found);
            }
        }
    }
}

/// Integers are what the definition says they are, whatever their sign.
fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Cel::Float(number.as_f64().unwrap()), Cel::Int),
        Value::String(text) => text.clone().into(),
        Value::Array(items) => items.iter().map(cel).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            let map = map.iter().map(|(name, value)| (name.clone(), cel(value)));
            map.collect::<std::collections::HashMap<String, Cel>>()
                .into()
        }
    }
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// As Go's `ParseCIDR` has it.
fn is_cidr(text: &str) -> bool {
    let Some((addr, len)) = text.split_once('/') else {
        return false;
    };
    let most = match addr.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    len.bytes().all(|b| b.is_ascii_digit()) && len.parse::<u32>().is_ok_and(|len| len <= most)
}

/// Tells every place of a value, by its JSON pointer.
pub fn break_up(value: &Value, tell: &mut dyn FnMut(&str, &Value)) {
    fn walk(value: &Value, path: &str, tell: &mut dyn FnMut(&str, &Value)) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| {
                walk(value, &format!("{path}/{name}"), tell);
            }),
            Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| {
                walk(value, &format!("{path}/{index}"), tell);
            }),
            _ => {}
        }
        if !path.is_empty() {
            tell(path, value);
        }
    }
    walk(value, "", tell);
}
