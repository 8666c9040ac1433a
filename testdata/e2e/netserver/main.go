// Command netserver runs one of the servers that check-auth.sh puts around a
// registry: one that issues tokens, a slow way to a registry, a forward proxy.
// It prints the address that it listens on, HOST:PORT, and then a line for what
// the checks count.
//
// Usage:
//
//	netserver token -dir DIR [-life DURATION] [-says SECONDS]
//	netserver slow -to HOST:PORT [-rate BYTES] [-delay DURATION]
//	netserver proxy -to HOST [-credentials USER:PASSWORD]
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "netserver: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("token, slow or proxy?")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	dir := flags.String("dir", "", "token: the folder for cert.pem, which the registry has to trust")
	life := flags.Duration("life", time.Minute, "token: how long a token is good")
	says := flags.Int("says", 0, "token: the seconds that expires_in says, if not 0")
	to := flags.String("to", "", "slow, proxy: where to")
	rate := flags.Int("rate", 0, "slow: bytes per second of each body, if not 0")
	delay := flags.Duration("delay", 0, "slow: how long an answer takes to a POST or about a manifest")
	credentials := flags.String("credentials", "", "token, proxy: USER:PASSWORD")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var handler http.Handler
	var err error
	switch args[0] {
	case "token":
		handler, err = newIssuer(*dir, *credentials, *life, *says)
	case "slow":
		handler = slowly(*to, *rate, *delay)
	case "proxy":
		handler = &proxy{to: *to, credentials: *credentials}
	default:
		err = fmt.Errorf("unknown server %q", args[0])
	}
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say("%s", listener.Addr())
	return http.Serve(listener, handler)
}

var saying sync.Mutex

// say prints a line on standard output.
func say(format string, args ...any) {
	saying.Lock()
	defer saying.Unlock()
	fmt.Printf(format+"\n", args...)
}
