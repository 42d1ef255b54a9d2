//! Tokens of an issuer: what is accepted, and everything that must not be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::{hmac, signature};
use serde_json::{Value, json};
use serve::access::config::AccessConfig;
use serve::access::presented::Presented;
use serve::access::principal::Scope;
use serve::access::{Access, Need, Target};

use crate::authority::pem;

const NOW: u64 = 2_000_000_000;
const SECRET: &[u8] = b"a secret of the tests, with 32 bytes and more";
/// Made for these tests, and used nowhere else.
const RSA: &[u8] = include_bytes!("fixtures/rsa.der");
const RSA_PUBLIC: &str = include_str!("fixtures/rsa.pub.pem");

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn claims() -> Value {
    json!({
        "iss": "https://login.example/", "aud": "brazier", "sub": "somebody", "exp": NOW + 600, "nbf": NOW - 600,
        "scope": "openid infer read", "models": ["digits"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// A token, signed by whatever signs.
fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signed = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signed}")
}

fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

fn rs256(message: &[u8]) -> Vec<u8> {
    let key = signature::RsaKeyPair::from_der(RSA).unwrap();
    let mut signed = vec![0; key.public().modulus_len()];
    key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signed).unwrap();
    signed
}

/// A verifier with a key of this kind: `key`, `jwks` or `secret`.
fn access(kind: &str, algorithms: &str, content: &[u8], more: &str) -> Result<Access, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("issuer");
    std::fs::write(&file, content).unwrap();
    let text = format!(
        "[jwt]\nissuer = \"https://login.example/\"\naudience = [\"other\", \"brazier\"]\nalgorithms = {algorithms}\n\
         {kind} = {:?}\n{more}",
        file.to_str().unwrap()
    );
    let config: AccessConfig = toml::from_str(&text).unwrap();
    assert_eq!(config.fault(), None);
    Access::read(&config, Arc::new(|| UNIX_EPOCH + Duration::from_secs(NOW)))
        .map_err(|fault| fault.to_string())
}

fn admit(access: &Access, token: &str, scope: Scope, model: &str) -> Result<String, String> {
    let header = format!("Bearer {token}");
    let presented = Presented::read([header.as_bytes()], []);
    let admitted = access.admit(&presented, Need::Scope(scope), Target::Model(model), None);
    let admitted = admitted.map(|admitted| admitted.principal.name.clone());
    let last = token.rsplit('.').next().unwrap_or("");
    admitted.map_err(|error| {
        assert!(last.len() < 20 || !error.to_string().contains(last), "{error}");
        format!("{} {error}", error.kind().status().as_u16())
    })
}

#[test]
fn tokens_are_what_they_claim_or_nothing() {
    let hs = access("secret", "[\"HS256\"]", &[SECRET, b"\n"].concat(), "").unwrap();
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let signed = |claims: &Value| token(&header, claims, |message| hs256(SECRET, message));
    assert_eq!(admit(&hs, &signed(&claims()), Scope::Infer, "digits").unwrap(), "somebody");
    let good = [
        with("aud", json!(["x", "brazier"])),
        with("scope", json!(["infer"])),
        with("exp", json!(NOW - 59)),
        with("exp", json!(2e15)),
        with("nbf", json!(NOW + 60)),
        without("nbf"),
        without("models"),
        with("models", json!("digits prices")),
    ];
    for claims in good {
        assert!(admit(&hs, &signed(&claims), Scope::Infer, "digits").is_ok(), "{claims}");
    }
    let bad = [
        (with("exp", json!(NOW - 60)), "401 the token has expired"),
        (without("exp"), "no `exp`"),
        (with("exp", json!((NOW + 600).to_string())), "a time in it is no number"),
        (with("exp", Value::Null), "a time in it is no number"),
        (with("nbf", json!(NOW + 61)), "not valid yet"),
        (with("nbf", json!("0")), "a time in it is no number"),
        (with("iss", json!("https://login.example")), "another issuer"),
        (with("iss", json!(["https://login.example/"])), "another issuer"),
        (without("iss"), "another issuer"),
        (with("aud", json!("brazier2")), "another audience"),
        (with("aud", json!([])), "another audience"),
        (without("aud"), "another audience"),
        (without("sub"), "no `sub`"),
        (with("models", json!(7)), "no list"),
        (with("scope", json!([1])), "holds no texts"),
        (with("scope", json!("read")), "403 this token lacks the scope `infer`"),
        (without("scope"), "403"),
        (with("models", json!([])), "403 this token may not use the model `digits`"),
        (with("models", json!(["prices"])), "403"),
    ];
    for (claims, part) in bad {
        let error = admit(&hs, &signed(&claims), Scope::Infer, "digits").unwrap_err();
        assert!(error.contains(part), "{claims}: {error}");
    }
    // A token makes nobody an administrator, unless the settings say so.
    let admin = signed(&with("scope", json!("admin infer")));
    assert!(admit(&hs, &admin, Scope::Admin, "digits").unwrap_err().starts_with("403"));
    assert!(admit(&hs, &admin, Scope::Infer, "digits").is_ok());
    let granting =
        access("secret", "[\"HS256\"]", SECRET, "allow_admin = true\nscope_prefix = \"b:\"").unwrap();
    assert!(!hs.has_admin() && granting.has_admin());
    assert!(
        admit(&granting, &admin, Scope::Admin, "digits").unwrap_err().starts_with("403"),
        "without the prefix"
    );
    assert!(admit(&granting, &signed(&with("scope", json!("b:admin"))), Scope::Admin, "digits").is_ok());
}

#[test]
fn signatures_are_those_of_the_keys_and_algorithms_that_are_set() {
    let hs = access("secret", "[\"HS256\"]", SECRET, "").unwrap();
    let rs = access("key", "[\"RS256\"]", RSA_PUBLIC.as_bytes(), "").unwrap();
    let header = |algorithm: &str| json!({ "alg": algorithm });
    let right = token(&header("RS256"), &claims(), rs256);
    assert!(admit(&rs, &right, Scope::Infer, "digits").is_ok());
    let refused = |access: &Access, token: &str, why: &str| {
        let error = admit(access, token, Scope::Infer, "digits").unwrap_err();
        assert!(error.starts_with("401 the token cannot be verified"), "{why}: {error}");
    };
    refused(&hs, &right, "an algorithm that is not set");
    let confused = |message: &[u8]| hs256(RSA_PUBLIC.as_bytes(), message);
    refused(&rs, &token(&header("HS256"), &claims(), confused), "the public key as a secret");
    refused(
        &rs,
        &token(&header("HS256"), &claims(), |message| hs256(RSA_PUBLIC.trim().as_bytes(), message)),
        "the same",
    );
    for none in ["none", "None", "NONE", "nOnE", ""] {
        refused(&rs, &token(&header(none), &claims(), |_| Vec::new()), "no algorithm");
        refused(&hs, &token(&header(none), &claims(), |_| Vec::new()), "no algorithm");
    }
    refused(&hs, &token(&header("HS256"), &claims(), |_| Vec::new()), "no signature");
    refused(&hs, &token(&header("HS256"), &claims(), |message| hs256(b"another", message)), "another secret");
    refused(&hs, &token(&header("HS256"), &claims(), |message| hs256(b"", message)), "an empty secret");
    refused(&hs, &token(&header("HS512"), &claims(), |message| hs256(SECRET, message)), "another digest");
    refused(&rs, &token(&header("RS512"), &claims(), rs256), "another digest");
    refused(&rs, &token(&header("PS256"), &claims(), rs256), "another padding");
    let sign = |message: &[u8]| hs256(SECRET, message);
    for more in [
        json!({ "alg": "HS256", "crit": ["exp"] }),
        json!({ "alg": "HS256", "crit": [] }),
        json!({ "alg": "HS256", "zip": "DEF" }),
        json!({ "alg": ["HS256"] }),
        json!({ "typ": "JWT" }),
        json!([]),
    ] {
        refused(&hs, &token(&more, &claims(), sign), &more.to_string());
    }
    // What a token brings along is no key.
    let own = json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": URL_SAFE_NO_PAD.encode(b"own") }, "jku": "http://127.0.0.1/" });
    refused(&hs, &token(&own, &claims(), |message| hs256(b"own", message)), "its own key");
    let good = token(&header("HS256"), &claims(), sign);
    assert!(admit(&hs, &good, Scope::Infer, "digits").is_ok());
    let (message, signed) = good.rsplit_once('.').unwrap();
    for wrong in [
        message.to_owned(),
        format!("{message}."),
        format!("{message}.{signed}="),
        format!("{message}.{signed}.{signed}"),
        format!("{message}.{}", &signed[1..]),
        format!("{}.{}.{signed}", part(&header("HS256")), part(&with("sub", json!("root")))),
        format!(".{}.{signed}", part(&claims())),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{message}{}.{signed}", "A".repeat(9000)),
    ] {
        refused(&hs, &wrong, "damaged");
    }
}

#[test]
fn curves_and_sets_of_keys() {
    let elliptic = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let edwards = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let random = SystemRandom::new();
    let es256 = |message: &[u8]| {
        let key = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = signature::EcdsaKeyPair::from_pkcs8(key, &elliptic.serialize_der(), &random).unwrap();
        key.sign(&random, message).unwrap().as_ref().to_vec()
    };
    let eddsa = |message: &[u8]| {
        let key = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&edwards.serialize_der()).unwrap();
        key.sign(message).as_ref().to_vec()
    };
    let es_token = |id: &str| token(&json!({ "alg": "ES256", "kid": id }), &claims(), es256);
    let ed_token = |id: &str| token(&json!({ "alg": "EdDSA", "kid": id }), &claims(), eddsa);
    let verifies = |access: &Access, token: &str| admit(access, token, Scope::Infer, "digits").is_ok();
    let public =
        |key: &rcgen::KeyPair| pem("PUBLIC KEY", &rcgen::PublicKeyData::subject_public_key_info(key));
    let es = access("key", "[\"ES256\"]", public(&elliptic).as_bytes(), "").unwrap();
    let ed = access("key", "[\"EdDSA\"]", public(&edwards).as_bytes(), "").unwrap();
    assert!(verifies(&es, &es_token("any")) && verifies(&ed, &ed_token("any")));
    assert!(!verifies(&es, &ed_token("any")) && !verifies(&ed, &es_token("any")));
    let point = rcgen::PublicKeyData::der_bytes(&elliptic);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let set = |keys: Value| json!({ "keys": keys }).to_string();
    let ec = json!({ "kty": "EC", "crv": "P-256", "kid": "e", "alg": "ES256", "use": "sig",
                     "x": encode(&point[1..33]), "y": encode(&point[33..]) });
    let okp = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "d", "x": encode(rcgen::PublicKeyData::der_bytes(&edwards)) });
    let both = access("jwks", "[\"ES256\", \"EdDSA\"]", set(json!([ec, okp])).as_bytes(), "").unwrap();
    assert!(verifies(&both, &es_token("e")) && verifies(&both, &ed_token("d")));
    assert!(!verifies(&both, &es_token("d")) && !verifies(&both, &es_token("f")), "the key that it names");
    let mut encryption = ec.clone();
    encryption["use"] = json!("enc");
    for (keys, part) in [
        (json!([]), "holds no key"),
        (json!([encryption]), "holds no key"),
        (json!([ec, ec]), "two keys have the id `e`"),
        (json!([{ "kty": "oct", "k": "c2VjcmV0" }]), "belongs in `secret`"),
    ] {
        let error = access("jwks", "[\"ES256\"]", set(keys).as_bytes(), "").unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
    for (kind, algorithms, content, part) in [
        ("jwks", "[\"ES256\"]", "no json", "it is no set of keys"),
        ("key", "[\"RS256\"]", "no pem", "holds no public key"),
        ("key", "[\"ES256\"]", RSA_PUBLIC, "holds no public key"),
        ("secret", "[\"HS256\"]", "short", "has at least 32 bytes, and this one 5"),
        ("secret", "[\"HS384\"]", &"k".repeat(47), "has at least 48 bytes, and this one 47"),
        ("secret", "[\"HS256\", \"HS512\"]", &"k".repeat(63), "has at least 64 bytes, and this one 63"),
    ] {
        let error = access(kind, algorithms, content.as_bytes(), "").unwrap_err();
        assert!(error.contains(part) && !error.contains("short:"), "{part}: {error}");
    }
    let gone = AccessConfig { keys: Some(Path::new("/nowhere/keys.toml").into()), ..AccessConfig::default() };
    assert!(
        Access::read(&gone, Arc::new(SystemTime::now)).unwrap_err().to_string().contains("cannot be read")
    );
}

#[test]
fn subjects_have_limits_of_their_own() {
    let limited = access("secret", "[\"HS256\"]", SECRET, "rate = 0.001\nburst = 1").unwrap();
    let of = |name: &str| {
        let claims = with("sub", json!(name));
        token(&json!({ "alg": "HS256" }), &claims, |message| hs256(SECRET, message))
    };
    let ask = |name: &str| admit(&limited, &of(name), Scope::Infer, "digits");
    assert!(ask("a").is_ok() && ask("b").is_ok());
    assert!(ask("a").unwrap_err().starts_with("429") && ask("b").unwrap_err().starts_with("429"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn nothing_but_a_signed_token_is_one(
        text in "[ -~]{0,80}",
        header in "[ -~]{0,40}",
        payload in "[ -~]{0,40}",
        flip in 0usize..10_000,
    ) {
        let hs = access("secret", "[\"HS256\"]", SECRET, "").unwrap();
        let rest = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signed = format!("{rest}.{}", URL_SAFE_NO_PAD.encode(hs256(SECRET, rest.as_bytes())));
        prop_assert!(admit(&hs, &text, Scope::Infer, "digits").is_err());
        prop_assert!(admit(&hs, &signed, Scope::Infer, "digits").is_err());
        let mut good = token(&json!({ "alg": "HS256" }), &claims(), |message| hs256(SECRET, message)).into_bytes();
        let place = flip % (good.len() - 1);
        let before = good[place];
        good[place] = if before == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(good).unwrap();
        prop_assert!(admit(&hs, &changed, Scope::Infer, "digits").is_err(), "{place}");
    }
}
