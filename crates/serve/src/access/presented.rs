//! What a request brings to be known by.

/// What a request brings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'a> {
    credential: Credential<'a>,
    certificate: Option<&'a [String]>,
}

/// A key or a token.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Neither.
    #[default]
    None,
    /// What cannot be either, and why.
    Wrong(&'static str),
    /// A key.
    Key(&'a str),
    /// A key or a token.
    Bearer(&'a str),
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Wrong(_) => "Wrong",
            Self::Key(_) => "Key(redacted)",
            Self::Bearer(_) => "Bearer(redacted)",
        })
    }
}

impl<'a> Presented<'a> {
    /// Reads the headers `authorization` and `x-api-key`. One is enough, and two could be of two people.
    #[must_use]
    pub fn read(
        authorization: impl IntoIterator<Item = &'a [u8]>,
        api_key: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let (mut authorization, mut api_key) = (authorization.into_iter(), api_key.into_iter());
        let first = (authorization.next(), api_key.next());
        let more = authorization.next().is_some() || api_key.next().is_some();
        let credential = match first {
            (None, None) => Credential::None,
            _ if more => Credential::Wrong("there is more than one key"),
            (Some(_), Some(_)) => Credential::Wrong("there is more than one key"),
            (None, Some(key)) => match std::str::from_utf8(key).map(str::trim) {
                Ok(key) if !key.is_empty() => Credential::Key(key),
                _ => Credential::Wrong("the header `X-API-Key` holds no key"),
            },
            (Some(text), None) => std::str::from_utf8(text).ok().and_then(bearer).map_or(
                Credential::Wrong("the header `Authorization` is not `Bearer` and a key"),
                Credential::Bearer,
            ),
        };
        Self { credential, certificate: None }
    }

    /// With the names in a client's certificate, which has been verified.
    #[must_use]
    pub fn with_certificate(self, names: Option<&'a [String]>) -> Self {
        Self { certificate: names, ..self }
    }

    pub(super) fn credential(&self) -> Credential<'a> {
        self.credential
    }

    pub(super) fn certificate(&self) -> Option<&'a [String]> {
        self.certificate
    }
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    let one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && one).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(authorization: &[&'a str], keys: &[&'a str]) -> Credential<'a> {
        let authorization = authorization.iter().map(|text| text.as_bytes());
        Presented::read(authorization, keys.iter().map(|text| text.as_bytes())).credential
    }

    #[test]
    fn one_credential_is_read_and_two_are_refused() {
        for (authorization, keys, expected) in [
            (vec![], vec![], Credential::None),
            (vec!["Bearer a"], vec![], Credential::Bearer("a")),
            (vec!["bearer   a "], vec![], Credential::Bearer("a")),
            (vec![], vec![" a "], Credential::Key("a")),
        ] {
            assert_eq!(read(&authorization, &keys), expected);
        }
        for (authorization, keys) in [
            (vec!["Bearer a", "Bearer a"], vec![]),
            (vec![], vec!["a", "a"]),
            (vec!["Bearer a"], vec!["a"]),
            (vec!["Basic YTpi"], vec![]),
            (vec!["Bearer"], vec![]),
            (vec!["Bearer "], vec![]),
            (vec!["Bearer a b"], vec![]),
            (vec!["Bearer a, Bearer b"], vec![]),
            (vec![""], vec![]),
            (vec![], vec![""]),
        ] {
            assert!(
                matches!(read(&authorization, &keys), Credential::Wrong(_)),
                "{authorization:?} {keys:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let presented = Presented::read([bytes.as_slice()], []);
            prop_assert!(presented.credential != Credential::None);
            let _ = Presented::read([], [bytes.as_slice()]);
        }
    }
}
