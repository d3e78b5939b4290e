// Command presenced is the gateway and its administration in one program.
//
// Its promise: one way to do each thing. A server and the commands run the same administration service
// ([admin], HTTP with JSON); while a server runs on a data folder the commands reach it over DATA/admin.sock,
// else they open the data file and run the service themselves, over a connection in memory. What a command can do
// never depends on which of the two it was.
//
//	main.go, command.go    arguments, exit codes, errors with hints
//	config*.go             the configuration: struct, layers, rules, printing
//	gateway.go             the wiring of a server, its start and its end
//	tls.go, acme.go        certificates: from files that change, or by ACME
//	serve.go               the command around it: signals, banner
//	demo*.go               a gateway with apps and devices that plays the whole way
//	monitor.go, metrics.go the admin listener: health, metrics, profiles
//	admin*.go              the administration service
//	client.go              the way from a command to the service
//	cmd_*.go, output.go    the commands
//
// Exit codes: 0 done, 1 failed, 2 wrong usage. Errors go to standard error as "presenced: ...".
package main
