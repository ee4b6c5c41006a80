package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

const (
	loopback = "127.0.0.1"

	// Ports come from below those that systems give to outgoing connections, or
	// one of these could take the port of a server that is down for a moment.
	// Redis Cluster also uses port+busOffset, which stays below as well.
	minPort   = 10_000
	maxPort   = 22_768
	busOffset = 10_000

	portTries = 100
)

// address is that of a port on this machine.
func address(port int) string { return fmt.Sprintf("%s:%d", loopback, port) }

// listenFree listens on a free port.
func listenFree() (net.Listener, int, error) {
	var failed error
	for range portTries {
		port := minPort + rand.IntN(maxPort-minPort)      //nolint:gosec // nothing has to be unpredictable here
		listener, err := net.Listen("tcp", address(port)) //nolint:noctx // binding a loopback port does not block
		if err == nil {
			return listener, port, nil
		}
		failed = err
	}
	return nil, 0, fmt.Errorf("testserver: no free port: %w", failed)
}

// freePort returns a port that was free just now, as was the one that Redis
// Cluster would use with it. Somebody else may still be faster.
func freePort() (int, error) {
	for range portTries {
		listener, port, err := listenFree()
		if err != nil {
			return 0, err
		}
		bus, err := net.Listen("tcp", address(port+busOffset)) //nolint:noctx // as above
		_ = listener.Close()
		if err == nil {
			_ = bus.Close()
			return port, nil
		}
	}
	return 0, errors.New("testserver: no free pair of ports")
}
