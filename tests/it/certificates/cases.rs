//! Certificates, and the ways in which each is accepted.

/// A server's certificate.
pub(super) struct Case {
    pub(super) what: &'static str,
    /// Shell that makes it.
    pub(super) make: &'static str,
    /// With the right root, by which ways in: `require` by name, `verify-ca` by name, `verify-full` by
    /// name, and `verify-full` by address.
    pub(super) accepted: [bool; 4],
}

const YES: bool = true;
const NO: bool = false;
/// For its name alone.
const BY_NAME: [bool; 4] = [YES, YES, YES, NO];
const BY_ADDRESS: [bool; 4] = [YES, YES, NO, YES];
const BY_BOTH: [bool; 4] = [YES, YES, YES, YES];
const BY_NEITHER: [bool; 4] = [YES, YES, NO, NO];
/// With a root at hand, `require` verifies as well.
const REFUSED: [bool; 4] = [NO, NO, NO, NO];

pub(super) const CASES: [Case; 30] = [
    Case {
        what: "self-signed, as in the manual",
        make: "self_signed",
        accepted: BY_NAME,
    },
    Case {
        what: "of a root, as in the manual: v1, a common name alone",
        make: "root; signed",
        accepted: BY_NAME,
    },
    Case {
        what: "by way of an intermediate, as in the manual",
        make: "root; intermediate 'basicConstraints=CA:TRUE'",
        accepted: BY_NAME,
    },
    Case {
        what: "v1, self-signed",
        make: "v1 server /CN=$name; cp server.crt root.crt",
        accepted: BY_NAME,
    },
    Case {
        what: "v1, of a root that is v1",
        make: "v1 root /CN=root; signed",
        accepted: BY_NAME,
    },
    Case {
        what: "v1, the common name an address",
        make: "root; name=127.0.0.1; signed",
        accepted: BY_ADDRESS,
    },
    Case {
        what: "v1, the common name a wildcard",
        make: "root; name=*.larder.test; signed",
        accepted: BY_NAME,
    },
    Case {
        what: "v1, the common name a wildcard of less",
        make: "root; name=*.test; signed",
        accepted: BY_NEITHER,
    },
    Case {
        what: "names in addition to the common name",
        make: "root_with /CN=root $ca; signed_with /CN=$name subjectAltName=DNS:other.test",
        accepted: BY_NEITHER,
    },
    Case {
        what: "a name that is none of its common name's",
        make: "root_with /CN=root $ca; signed_with /CN=other.test subjectAltName=DNS:$name,IP:127.0.0.1",
        accepted: BY_BOTH,
    },
    Case {
        what: "an address, and a common name that counts for names",
        make: "root_with /CN=root $ca; signed_with /CN=$name subjectAltName=IP:127.0.0.1",
        accepted: BY_BOTH,
    },
    Case {
        what: "an address among the DNS names",
        make: "root_with /CN=root $ca; signed_with /CN=$name subjectAltName=DNS:127.0.0.1",
        accepted: BY_ADDRESS,
    },
    Case {
        what: "no name at all",
        make: "root_with /CN=root $ca; signed_with /O=nobody",
        accepted: BY_NEITHER,
    },
    Case {
        what: "two common names, of which the first counts",
        make: "root_with /CN=root $ca; signed_with /CN=other.test/CN=$name",
        accepted: BY_NEITHER,
    },
    Case {
        what: "an authority's, of a root",
        make: "root_with /CN=root $ca; signed_with /CN=$name $ca",
        accepted: BY_NAME,
    },
    Case {
        what: "self-signed, no authority's",
        make: "root_with /CN=$name basicConstraints=CA:FALSE; cp root.crt server.crt; cp root.key server.key",
        accepted: BY_NAME,
    },
    Case {
        what: "a root that is no authority",
        make: "root_with /CN=root basicConstraints=CA:FALSE; signed",
        accepted: REFUSED,
    },
    Case {
        what: "a root that may sign nothing",
        make: "root_with /CN=root $ca keyUsage=digitalSignature; signed",
        accepted: REFUSED,
    },
    Case {
        what: "a root for something else",
        make: "root_with /CN=root $ca extendedKeyUsage=clientAuth; signed",
        accepted: REFUSED,
    },
    Case {
        what: "a root without authorities below it",
        make: "root_with /CN=root $ca,pathlen:0; intermediate $ca",
        accepted: REFUSED,
    },
    Case {
        what: "a root that demands what nobody knows",
        make: "root_with /CN=root $ca 1.2.3.4=critical,DER:0500; signed",
        accepted: REFUSED,
    },
    Case {
        what: "a root that ran out",
        make: "root_with() { key root.key; openssl req -new -key root.key -out root.csr -subj /CN=root; \
               printf '%s\\n' $ca > root.cnf; faketime -f -800d openssl x509 -req -in root.csr -days 365 \
               -extfile root.cnf -signkey root.key -out root.crt; }; root_with; signed",
        accepted: REFUSED,
    },
    Case {
        what: "ran out",
        make: "root; openssl() { faketime -f -800d openssl \"$@\"; }; signed",
        accepted: REFUSED,
    },
    Case {
        what: "an intermediate that is v1",
        make: "root; intermediate ''",
        accepted: REFUSED,
    },
    Case {
        what: "an intermediate that is no authority",
        make: "root; intermediate basicConstraints=CA:FALSE",
        accepted: REFUSED,
    },
    Case {
        what: "an intermediate for a root",
        make: "root; intermediate $ca; cp intermediate.crt root.crt",
        accepted: REFUSED,
    },
    Case {
        what: "for clients",
        make: "root_with /CN=root $ca; signed_with /CN=$name extendedKeyUsage=clientAuth",
        accepted: REFUSED,
    },
    Case {
        what: "for signing others",
        make: "root_with /CN=root $ca; signed_with /CN=$name keyUsage=keyCertSign",
        accepted: REFUSED,
    },
    Case {
        what: "of a root for other names, by the common name",
        make: "root_with /CN=root $ca 'nameConstraints=critical,permitted;DNS:other.test'; \
               signed_with /CN=$name keyUsage=digitalSignature",
        accepted: REFUSED,
    },
    Case {
        what: "of a root for such names, by the common name",
        make: "root_with /CN=root $ca 'nameConstraints=critical,permitted;DNS:larder.test'; \
               signed_with /CN=$name keyUsage=digitalSignature",
        accepted: BY_NAME,
    },
];
