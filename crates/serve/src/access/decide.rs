//! What the check answers: whether somebody may do something, and the refusals.

use std::time::Instant;

use super::principal::{Known, Principal, Scope, Scopes};
use super::{Need, Rules, Target};
use crate::error::{Kind, Result, ServeError, shown};

/// 404, without the names that an error of the catalog would list.
pub(super) fn no_model(name: &str) -> ServeError {
    ServeError::not_found(format_args!("there is no model {}", shown(name)))
}

/// 401, with what would let it in.
pub(super) fn refuse_unknown(why: &str, given: bool) -> ServeError {
    let message = format!("{why}; send a key as `Authorization: Bearer …` or `X-API-Key: …`");
    let error = if given { ", error=\"invalid_token\"" } else { "" };
    ServeError::new(Kind::Unauthorized, message).challenge(format!("Bearer realm=\"brazier\"{error}"))
}

/// Counts a request against the limit of who asks.
pub(super) fn take(principal: &Principal) -> Result<()> {
    let Some(bucket) = &principal.bucket else { return Ok(()) };
    bucket.take(Instant::now()).map_err(|wait| {
        let message = format!("{} asks more often than its limit allows", principal.title());
        ServeError::new(Kind::TooMany, message).retry_after(wait)
    })
}

/// Whether a principal may do something. What it is about is asked only where not everything is allowed.
pub(super) fn allow<'t>(
    rules: &Rules,
    principal: &Principal,
    need: Need,
    target: impl FnOnce() -> Target<'t>,
) -> Result<()> {
    let anonymous = principal.known == Known::Anonymous;
    let forbid = |message: String| Err(ServeError::new(Kind::Forbidden, message));
    let scope = match need {
        Need::Open => return Ok(()),
        Need::Known if anonymous && principal.scopes == Scopes::default() => {
            return Err(refuse_unknown("this server answers only those it knows", false));
        }
        Need::Known => return Ok(()),
        Need::Scope(scope) => scope,
    };
    if !principal.scopes.allows(scope) {
        if anonymous && rules.closed() {
            let error = refuse_unknown(&format!("this needs a key with the scope `{scope}`"), false);
            return Err(error);
        }
        if anonymous {
            return forbid(
                "this server takes no changes from clients: it has no key with the scope `admin`".to_owned(),
            );
        }
        let error = forbid(format!("{} lacks the scope `{scope}`", principal.title()));
        let challenge = format!("Bearer realm=\"brazier\", error=\"insufficient_scope\", scope=\"{scope}\"");
        return error.map_err(|error| error.challenge(challenge));
    }
    if principal.models.are_all() {
        return Ok(());
    }
    match target() {
        // What holds for all models is changed only by who may use them all.
        Target::Server if scope == Scope::Admin => {
            forbid(format!("{} may not change what holds for all models", principal.title()))
        }
        Target::All => forbid(format!("{} may not use all models", principal.title())),
        Target::Server | Target::Later => Ok(()),
        Target::Model(name) if !principal.models.contains(name) => {
            forbid(format!("{} may not use the model {}", principal.title(), shown(name)))
        }
        // Who did not name it does not learn its name.
        Target::Default(name) if !principal.models.contains(name) => {
            forbid(format!("{} may not use the default model", principal.title()))
        }
        Target::Model(_) | Target::Default(_) => Ok(()),
        Target::Unnamed => {
            forbid(format!("{} may use some models, and the request names none", principal.title()))
        }
    }
}
