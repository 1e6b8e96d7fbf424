# k3s-io/k3s: pkg/cluster/storage.go
server n1 --token one
stop n1
gives 1 'starting kubernetes: preparing server: bootstrap data already found and encrypted with different token' at n1 "$W/k3s" server --node-ip 127.0.0.1 --token two
gives 1 'failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>' at n2 "$W/k3s" server --node-ip 127.0.0.1 --token abcdef.0123456789abcdef
# Without a token it takes the one it has; the full form is as good as the password.
server n1
stop n1
server n1 --token "$(token)"
gives 0 'Token rotated, restart k3s nodes with new token' at n1 "$W/k3s" token rotate --new-token three
stop n1
gives 1 'bootstrap data already found and encrypted with different token' at n1 "$W/k3s" server --node-ip 127.0.0.1 --token one
server n1 --token three
