//! The description of the routes, OpenAPI 3.1, made from their table and from the types that they answer with.

use std::sync::OnceLock;

use actix_web::HttpResponse;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::access::Need;
use crate::access::principal::Scope;
use crate::drift::Drift;
use crate::oip::types::{ModelConfig, ModelMetadata, ServerMetadata, Statistics};
use crate::ops::Operations;
use crate::repository::IndexEntry;
use crate::routes::table::{ENDPOINTS, Endpoint, Method, Shape};

/// `GET /openapi.json`.
pub async fn serve() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text())
}

/// The document as text; it never changes while the server runs.
fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| document().to_string())
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let item = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        item[verb(endpoint.method)] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Brazier",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Trained models, served",
            "description": "Raw inputs on `/predict`, prepared tensors on `/v2` (Open Inference Protocol).",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of this server, or a token of an issuer that it trusts",
                },
                "key": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key of this server" },
            },
        },
    })
}

/// A method as OpenAPI names it.
fn verb(method: Method) -> &'static str {
    match method {
        Method::Get => "get",
        Method::Post => "post",
    }
}

fn operation(endpoint: &Endpoint) -> Value {
    let Endpoint { method, path, tag, summary, takes, gives, .. } = endpoint;
    let mut parameters: Vec<Value> = path.split('/').filter_map(parameter).collect();
    if *takes == Shape::Inputs {
        parameters.push(json!({
            "name": "top",
            "in": "query",
            "description": "How many of the most probable classes to list",
            "schema": { "type": "integer", "minimum": 1 },
        }));
    }
    if matches!(takes, Shape::Tensors(_)) {
        parameters.push(json!({
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "With binary tensors: the length of the JSON before them in bytes; 0: the body is the only input",
            "schema": { "type": "integer", "minimum": 0 },
        }));
    }
    let words: Vec<&str> = path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty()).collect();
    let name = [&[verb(*method)], words.as_slice()].concat().join("_");
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(*gives));
    for (status, what) in refusals(endpoint) {
        responses.insert(status.to_string(), refusal(what));
    }
    responses.insert("default".to_owned(), refusal("The server cannot answer"));
    let mut operation = json!({
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    });
    operation["security"] = match endpoint.need {
        Need::Open => json!([]),
        // The empty one, for a server without keys lets everybody look and ask.
        Need::Known | Need::Scope(Scope::Read | Scope::Infer) => json!([{ "bearer": [] }, { "key": [] }, {}]),
        Need::Scope(Scope::Admin) => json!([{ "bearer": [] }, { "key": [] }]),
    };
    if let Need::Scope(scope) = endpoint.need {
        operation["x-scope"] = json!(scope);
    }
    if let Some(content) = content(*takes) {
        let required = matches!(takes, Shape::Tensors(_) | Shape::Inputs);
        operation["requestBody"] = json!({ "required": required, "content": content });
    }
    operation
}

/// What varies in a path.
fn parameter(segment: &str) -> Option<Value> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    let description = match name {
        "name" => "The model's name",
        "version" => "A number, an alias, or `latest`",
        _ => "The file's name",
    };
    let schema = json!({ "type": "string", "minLength": 1 });
    Some(
        json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema }),
    )
}

/// The refusals that a route has by what it takes.
fn refusals(endpoint: &Endpoint) -> Vec<(u16, &'static str)> {
    let mut refusals = Vec::new();
    if endpoint.path.contains('{') {
        refusals.push((404, "There is no such model or version"));
    }
    if endpoint.method == Method::Post {
        refusals.push((400, "The request cannot be read, or does not fit the model"));
        refusals.push((408, "The body did not arrive in time"));
        refusals.push((413, "The body, or the batch in it, is too large"));
        refusals.push((415, "A content type or encoding that is not read"));
        refusals.push((501, "A part of the protocol that this server does not speak"));
        refusals.push((504, "The time that the request had was up"));
    }
    if endpoint.need != Need::Open {
        refusals.push((401, "This server asks for a key, or does not know this one"));
        refusals.push((403, "The key lacks the scope that this needs, or may not use the model"));
        refusals.push((429, "The key asks more often than it may; again after the seconds in `Retry-After`"));
    }
    if matches!(
        endpoint.gives,
        Shape::Json("Ready" | "ModelReady" | "Predictions" | "Traffic" | "Drift") | Shape::Tensors(_)
    ) {
        refusals.push((503, "Not now; try again after the seconds in `Retry-After`"));
    }
    refusals
}

fn refusal(description: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn success(gives: Shape) -> Value {
    match content(gives) {
        Some(content) => json!({ "description": "The answer", "content": content }),
        None => json!({ "description": "Done" }),
    }
}

fn content(shape: Shape) -> Option<Value> {
    let schema = |name: &str| json!({ "schema": { "$ref": format!("#/components/schemas/{name}") } });
    let bytes = json!({});
    match shape {
        Shape::Nothing => None,
        Shape::File => Some(json!({ "text/html": {}, "text/css": {}, "text/javascript": {} })),
        Shape::Metrics => Some(json!({
            "text/plain": { "schema": { "type": "string" } },
            "application/openmetrics-text": { "schema": { "type": "string" } },
        })),
        Shape::Json(name) => Some(json!({ "application/json": schema(name) })),
        Shape::Tensors(name) => {
            Some(json!({ "application/json": schema(name), "application/octet-stream": bytes }))
        }
        Shape::Inputs => Some(json!({
            "application/json": schema("Inputs"),
            "image/png": bytes,
            "image/jpeg": bytes,
            "text/csv": { "schema": { "type": "string" } },
            "multipart/form-data": { "schema": { "type": "object" } },
        })),
    }
}

/// The schemas: those of types of ours are made from them, the others are written here.
fn schemas() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .for_serialize()
        .into_generator();
    generator.subschema_for::<ServerMetadata>();
    generator.subschema_for::<ModelMetadata>();
    generator.subschema_for::<ModelConfig>();
    generator.subschema_for::<Statistics>();
    generator.subschema_for::<IndexEntry>();
    generator.subschema_for::<Drift>();
    generator.subschema_for::<Operations>();
    let mut schemas = Value::Object(generator.take_definitions(true));
    let parameters = json!({
        "type": "object",
        "additionalProperties": { "type": ["string", "number", "boolean"] },
    });
    let shape = json!({ "type": "array", "items": { "type": "integer", "minimum": 0 }, "maxItems": 16 });
    let datatype = json!({
        "type": "string",
        "enum": ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16",
                 "FP32", "FP64", "BYTES"],
    });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let flag =
        |name: &str| object(&[name], json!({ name: { "type": "boolean" }, "error": { "type": "string" } }));
    let (any, list) = (json!({}), json!({ "type": "array", "minItems": 1 }));
    let inputs = |name: &str, schema: Value| {
        let parameters = object(&[], json!({ "top": { "type": "integer", "minimum": 1 } }));
        let mut form = object(&[name], json!({ name: schema, "parameters": parameters }));
        form["additionalProperties"] = false.into();
        form
    };
    let written = [
        ("Error", object(&["error"], json!({ "error": { "type": "string" } }))),
        ("Live", flag("live")),
        ("Ready", flag("ready")),
        (
            "ModelReady",
            object(
                &["name", "ready"],
                json!({ "name": { "type": "string" }, "ready": { "type": "boolean" } }),
            ),
        ),
        ("Parameters", parameters),
        (
            "InferRequest",
            object(
                &["inputs"],
                json!({
                    "id": { "type": "string", "description": "Echoed in the response" },
                    "parameters": { "$ref": "#/components/schemas/Parameters" },
                    "inputs": { "type": "array", "minItems": 1, "items": object(
                        &["name", "shape", "datatype"],
                        json!({
                            "name": { "type": "string" },
                            "shape": shape,
                            "datatype": datatype,
                            "parameters": { "$ref": "#/components/schemas/Parameters" },
                            "data": { "type": "array", "description": "Flat, or nested as the shape says" },
                        }),
                    ) },
                    "outputs": { "type": "array", "items": object(
                        &["name"],
                        json!({
                            "name": { "type": "string" },
                            "parameters": { "$ref": "#/components/schemas/Parameters" },
                        }),
                    ) },
                }),
            ),
        ),
        (
            "InferResponse",
            object(
                &["model_name", "model_version", "outputs"],
                json!({
                    "model_name": { "type": "string" },
                    "model_version": { "type": "string" },
                    "id": { "type": "string" },
                    "outputs": { "type": "array", "items": object(
                        &["name", "shape", "datatype"],
                        json!({
                            "name": { "type": "string" },
                            "shape": shape,
                            "datatype": datatype,
                            "parameters": { "$ref": "#/components/schemas/Parameters" },
                            "data": { "type": "array", "description": "Flat; `null` where JSON has no number" },
                        }),
                    ) },
                }),
            ),
        ),
        (
            "Inputs",
            json!({
                "description": "One of `input`, `inputs` and `instances`. What an input is, GET /models/{name} tells.",
                "oneOf": [inputs("input", any), inputs("inputs", list.clone()), inputs("instances", list)],
            }),
        ),
        (
            "Predictions",
            object(
                &["model", "version"],
                json!({
                    "model": { "type": "string" },
                    "version": { "type": "integer" },
                    "prediction": { "type": "object" },
                    "predictions": { "type": "array", "items": { "type": "object" } },
                }),
            ),
        ),
        (
            "Models",
            object(&["models"], json!({ "models": { "type": "array", "items": { "type": "object" } } })),
        ),
        (
            "Model",
            object(
                &["name", "versions"],
                json!({ "name": { "type": "string" }, "versions": { "type": "array" } }),
            ),
        ),
        (
            "Version",
            object(
                &["name", "version"],
                json!({ "name": { "type": "string" }, "version": { "type": "integer" } }),
            ),
        ),
        (
            "IndexRequest",
            json!({ "type": "object", "properties": { "ready": { "type": "boolean" } }, "additionalProperties": false }),
        ),
        ("Index", json!({ "type": "array", "items": { "$ref": "#/components/schemas/IndexEntry" } })),
        ("ChangeRequest", json!({ "type": "object", "properties": { "parameters": { "type": "object" } } })),
        ("Settings", json!({ "type": "object" })),
        ("Traffic", json!({ "type": "object" })),
        ("TrafficAction", json!({ "type": "object" })),
        (
            "OpenApi",
            object(
                &["openapi", "paths"],
                json!({ "openapi": { "type": "string" }, "paths": { "type": "object" } }),
            ),
        ),
    ];
    for (name, schema) in written {
        schemas[name] = schema;
    }
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` of the document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    match (key.as_str(), value) {
                        ("$ref", Value::String(target)) => found.push(target.clone()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{method} {path}: {name} is taken");
                let parameters = operation["parameters"].as_array().unwrap();
                let named = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
                assert_eq!(named, path.matches('{').count(), "{path}");
            }
        }
        assert_eq!(names.len(), ENDPOINTS.len());
    }

    #[test]
    fn types_that_are_answered_are_described_by_themselves() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        assert!(schemas["ModelMetadata"]["properties"]["platform"].is_object(), "{schemas}");
        assert!(schemas["InferenceStatistics"]["properties"]["queue"].is_object());
    }
}
