//go:build !unix

package testserver

import (
	"os/exec"
	"testing"
)

// PublicDir skips the test.
func PublicDir(t testing.TB) string {
	t.Helper()
	t.Skip("directories have modes on Unix only")
	return ""
}

// AsOtherUser skips the test.
func AsOtherUser(t testing.TB, _ *exec.Cmd) {
	t.Helper()
	t.Skip("processes of other users are for Unix only")
}
