package testserver

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
)

// requireServers is the environment variable that turns a skip into a failure.
const requireServers = "COATCHECK_REQUIRE_SERVERS"

// forTest starts a server that ends with the test.
func forTest[S io.Closer](t testing.TB, start func() (S, error)) S {
	t.Helper()
	s, err := start()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv(requireServers) == "" {
		t.Skip("install it to run this test:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error("close a test server:", err)
		}
	})
	return s
}
