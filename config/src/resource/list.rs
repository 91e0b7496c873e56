//! Documents that hold several objects.

use serde_json::Value;

use crate::error::FieldError;

/// Most objects of a list: one value must not ask for a flood of answers.
const MAX_ITEMS: usize = 20_000;

/// The objects of a `List` (or of an API server's `F5SPKVlanList`), or the one object itself.
///
/// Items of a typed list name neither kind nor version; they take the list's. Errors: a list
/// without items, or with more than 20,000.
pub fn expand(mut value: Value) -> Result<Vec<Value>, Vec<FieldError>> {
    let kind = value.get("kind").and_then(Value::as_str);
    let Some(item_kind) = kind.and_then(|kind| kind.strip_suffix("List")) else {
        return Ok(vec![value]);
    };
    let item_kind = item_kind.to_owned();
    let api_version = value.get("apiVersion").cloned();
    let Some(Value::Array(mut items)) = value.get_mut("items").map(Value::take) else {
        return Err(vec![FieldError::new("items", "is not a list of objects")]);
    };
    if items.len() > MAX_ITEMS {
        let message = format!("{} items are more than {MAX_ITEMS}", items.len());
        return Err(vec![FieldError::new("items", message)]);
    }
    if !item_kind.is_empty() {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            if !item.contains_key("kind") {
                item.insert("kind".to_owned(), item_kind.clone().into());
            }
            if let (false, Some(version)) = (item.contains_key("apiVersion"), &api_version) {
                item.insert("apiVersion".to_owned(), version.clone());
            }
        }
    }
    Ok(items)
}
