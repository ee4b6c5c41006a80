package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain makes this program, and a browser that signs in by itself, commands of the
// scripts: each is a process, as it is for a user.
func TestMain(m *testing.M) {
	testscript.Main(leakTest{m}, map[string]func(){
		clientID:  main,
		"visitor": func() { os.Exit(visit(os.Args[1], os.Getenv("VISITOR"))) },
	})
}

// leakTest looks for goroutines that are left when all tests are done.
type leakTest struct{ *testing.M }

func (m leakTest) Run() (code int) {
	goleak.VerifyTestMain(m.M, goleak.Cleanup(func(exit int) { code = exit }))
	return code
}
