package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// requireNode is the environment variable that turns a skip into a failure.
const requireNode = "COATCHECK_REQUIRE_NODE"

// node is where MSAL Node is installed.
type node struct {
	program, dir string
}

// newNode installs what testdata/node/package-lock.json says into a directory of the
// test's own. What npm has downloaded before is taken from its cache, which checks it.
func newNode(t *testing.T) *node {
	t.Helper()
	skip := func(reason string) {
		t.Helper()
		if os.Getenv(requireNode) != "" {
			t.Fatalf("%s is set, and %s", requireNode, reason)
		}
		t.Skip(reason)
	}
	program, err := exec.LookPath("node")
	if err != nil {
		skip("node is not installed, which runs MSAL Node")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		skip("npm is not installed, which installs MSAL Node")
	}
	n := &node{program: program, dir: t.TempDir()}
	for _, name := range []string{"package.json", "package-lock.json", "msal.mjs", "adopt.mjs"} {
		b, err := os.ReadFile(filepath.Join("testdata", "node", name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(n.dir, name), b, 0o600))
	}
	switch code, err := n.install(t.Context(), npm); {
	case err == nil:
		return n
	case unreachable.MatchString(code):
		skip("the package registry is not reachable: " + code)
	default:
		t.Fatalf("npm ci: %v, code %q", err, code)
	}
	return nil
}

// The lock file says what is installed, to the byte, and not from where.
func TestLockFile(t *testing.T) {
	t.Parallel()
	type pkg struct{ Version, Resolved, Integrity string }
	var lock struct{ Packages map[string]pkg }
	b := readFile(t, "node/package-lock.json")
	check(t, json.Unmarshal(b, &lock))
	if lock.Packages["node_modules/@azure/msal-node"].Version == "" {
		t.Error("the lock file has no MSAL Node")
	}
	for name, p := range lock.Packages {
		if name != "" && (!strings.HasPrefix(p.Integrity, "sha512-") || p.Resolved != "") {
			t.Errorf("%s has no hash, or an address", name)
		}
	}
}

// unreachable are npm's codes for a registry that cannot be had, and those of HTTP but
// for a package that it does not have.
var unreachable = regexp.MustCompile(`^(EAI_AGAIN|ENOTFOUND|ECONN\w+|E(SOCKET)?TIMEDOUT|ERR_SOCKET_TIMEOUT|E(HOST|NET)UNREACH|ENETDOWN|ENOTCACHED|EPROTO|E40[1378]|E429|E5\d\d)$`)

var npmCode = regexp.MustCompile(`(?m)^npm (?:error|ERR!) code (\S+)`)

// install runs npm, and returns its code for what went wrong.
func (n *node) install(ctx context.Context, npm string) (code string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund",
		"--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000", "--loglevel=error")
	cmd.Dir = n.dir
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "ETIMEDOUT", ctx.Err()
	}
	if m := npmCode.FindSubmatch(out); m != nil {
		code = string(m[1])
	}
	return code, err
}

// step is what testdata/node/msal.mjs is told.
type step struct {
	Name         string          `json:"name"`
	Authority    string          `json:"authority"`
	ClientID     string          `json:"clientId"`
	ClientSecret string          `json:"clientSecret"`
	RedirectURI  string          `json:"redirectUri"`
	Cache        json.RawMessage `json:"cache,omitempty"`
	Adopt        bool            `json:"adopt"` // the cache, which is coatcheck's
	Scopes       []string        `json:"scopes"`
	Force        bool            `json:"force"` // a refresh
	Code         string          `json:"code"`
	Verifier     string          `json:"verifier"`
	Nonce        string          `json:"nonce"`
}

// outcome is what it answers.
type outcome struct {
	Error     string          `json:"error"`
	Suberror  string          `json:"suberror"`
	URL       string          `json:"url"`
	Verifier  string          `json:"verifier"`
	Nonce     string          `json:"nonce"`
	Account   string          `json:"account"`
	Username  string          `json:"username"`
	Token     string          `json:"token"` // its hash: see digest
	FromCache bool            `json:"fromCache"`
	Cache     json.RawMessage `json:"cache"`
}

// run has MSAL Node do a step, in a process of its own, which trusts the certificate in a
// file. The process inherits nothing of the environment that could tell it otherwise.
func (n *node) run(t *testing.T, certificate string, s *step) *outcome {
	t.Helper()
	in, err := json.Marshal(s)
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.program, "msal.mjs")
	cmd.Dir, cmd.Stdin = n.dir, bytes.NewReader(in)
	cmd.Env = []string{"HOME=" + n.dir, "PATH=" + os.Getenv("PATH"), "NODE_EXTRA_CA_CERTS=" + certificate}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node, step %s: %v, %s", s.Name, err, firstError(err))
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("node, step %s: %d bytes that are no answer", s.Name, len(out))
	}
	return &o
}

// firstError is the line of a program's output that names the error: a stack may have
// tokens in it.
func firstError(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		for line := range strings.Lines(string(exit.Stderr)) {
			if name, _, ok := strings.Cut(line, ":"); ok && strings.HasSuffix(name, "Error") {
				return name
			}
		}
	}
	return fmt.Sprintf("%T", err)
}
