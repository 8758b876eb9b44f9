# Makes certificates as Postgres's manual does ("Creating Certificates"), and others: what follows calls
# these functions, and leaves server.crt, server.key and root.crt here.
set -e
name=db.larder.test
config=$(openssl version -d | cut -d'"' -f2)/openssl.cnf

# Of the manual.
self_signed() {
    openssl req -new -x509 -days 365 -nodes -text -out server.crt -keyout server.key -subj "/CN=$name"
    cp server.crt root.crt
}

# Of the manual.
root() {
    openssl req -new -nodes -text -out root.csr -keyout root.key -subj "/CN=root.larder.test"
    openssl x509 -req -in root.csr -text -days 3650 -extfile "$config" -extensions v3_ca \
        -signkey root.key -out root.crt
}

# Of the manual.
signed() {
    openssl req -new -nodes -text -out server.csr -keyout server.key -subj "/CN=$name"
    openssl x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial \
        -out server.crt
}

# Of the manual, with the extensions $1 for the one in between.
intermediate() {
    openssl req -new -nodes -text -out intermediate.csr -keyout intermediate.key \
        -subj "/CN=intermediate.larder.test"
    printf '%s\n' "$1" > intermediate.cnf
    openssl x509 -req -in intermediate.csr -text -days 1825 -extfile intermediate.cnf \
        -CA root.crt -CAkey root.key -CAcreateserial -out intermediate.crt
    openssl req -new -nodes -text -out server.csr -keyout server.key -subj "/CN=$name"
    openssl x509 -req -in server.csr -text -days 365 -CA intermediate.crt -CAkey intermediate.key \
        -CAcreateserial -out leaf.crt
    cat leaf.crt intermediate.crt > server.crt
}

# $1 is a subject, the others are lines of extensions.
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

root_with() {
    key root.key
    openssl req -new -key root.key -out root.csr -subj "$1"
    shift
    printf '%s\n' "$@" > root.cnf
    openssl x509 -req -in root.csr -days 3650 -extfile root.cnf -signkey root.key -out root.crt
}

signed_with() {
    key server.key
    openssl req -new -key server.key -out server.csr -subj "$1"
    shift
    printf '%s\n' "$@" > server.cnf
    openssl x509 -req -in server.csr -days 365 -extfile server.cnf -CA root.crt -CAkey root.key \
        -CAcreateserial -out server.crt
}

# A self-signed certificate of X.509 v1.
v1() {
    key "$1.key"
    openssl req -new -key "$1.key" -out "$1.csr" -subj "$2"
    openssl x509 -req -in "$1.csr" -days 365 -signkey "$1.key" -out "$1.crt"
}

# Revokes these certificates of the root, and says so in root.crl and in the folder lists.
revoke() {
    : > index.txt
    printf '%s\n' '[ca]' 'default_ca = own' '[own]' 'database = index.txt' 'default_md = sha256' \
        'default_crl_days = 30' 'crl_extensions = extensions' '[extensions]' \
        'authorityKeyIdentifier = keyid:always' > ca.cnf
    for certificate in "$@"; do
        openssl ca -config ca.cnf -keyfile root.key -cert root.crt -revoke "$certificate"
    done
    openssl ca -config ca.cnf -keyfile root.key -cert root.crt -gencrl -out root.crl
    mkdir -p lists/folder
    cp root.crl lists/
    openssl rehash lists
}
