# Go: crypto/x509/verify.go; k3s-io/k3s: pkg/clientaccess/token.go (getCACerts)
server n1
t=$(token)
SIMULATOR_CLOCK_OFFSET=-100000000; export SIMULATOR_CLOCK_OFFSET
agent a1 "$t"
has "$W/a1.log" 'CA cert validation failed: Get \"https://127.0.0.1:7444/cacerts\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 20'
grep -q ' is before 20' "$W/a1.log" || die before
