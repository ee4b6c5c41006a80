package xoauth2

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLandingWait covers what ends a wait, and what is first of two at once.
func TestLandingWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &landing{answers: make(chan url.Values, 1)}
		began, expired := time.Now(), time.NewTimer(signInLife)
		if _, err := l.wait(t.Context(), nil, expired.C); !errors.Is(err, ErrCallback) || !strings.Contains(err.Error(), "15 minutes") {
			t.Errorf("nobody has come: got %v", err)
		}
		if waited := time.Since(began); waited != 15*time.Minute {
			t.Errorf("waited for %v", waited)
		}

		// A browser that runs in the foreground may end with an error once the user is back.
		answer := url.Values{"code": {"x"}}
		for range 100 {
			opened := make(chan error, 1)
			opened <- errors.New("the browser has crashed")
			l.answers <- answer
			got, err := l.wait(t.Context(), opened, nil)
			if err != nil || got.Get("code") != "x" {
				t.Fatalf("got %v, %v", got, err)
			}
		}
	})
}

// TestOpenBrowser has a script in the place of xdg-open.
func TestOpenBrowser(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("this system opens browsers in another way")
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := openBrowser("http://127.0.0.1/"); !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "xdg-open") {
		t.Errorf("without any: got %v", err)
	}

	opened := filepath.Join(dir, "opened")
	script(t, filepath.Join(dir, "xdg-open"), "echo noise; echo noise >&2; printf %s \"$1\" >"+opened+"; read -r line && echo typed >>"+opened)
	out := swapOutput(t)
	const address = "http://127.0.0.1/?a=$(b)&c='d'"
	if err := openBrowser(address); err != nil {
		// The script's last command fails, as it has no terminal to read from.
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Error(err)
		}
	} else {
		t.Error("a program that fails has opened the browser")
	}
	if b, err := os.ReadFile(opened); err != nil || string(b) != address {
		t.Errorf("opened %q, %v", b, err)
	}
	if said := out(); said != "" {
		t.Errorf("the program's output has %q", said)
	}
	script(t, filepath.Join(dir, "xdg-open"), "exit 0")
	if err := openBrowser(address); err != nil {
		t.Error(err)
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// swapOutput puts a file into the place of standard output and error. The function
// puts them back, and returns what was written.
func swapOutput(t *testing.T) func() string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = f, f
	return func() string {
		os.Stdout, os.Stderr = stdout, stderr
		defer func() { _ = f.Close() }()
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// TestSignInRedirect: what an older version has encoded is read, and only a sign-in with
// another redirect URL than the client's is longer than it was.
func TestSignInRedirect(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", 43)
	const old = `{"iss":"https://login.example.com","state":"S","nonce":"S","verifier":"S","scopes":["a"],"started":1}`
	text := base64.RawURLEncoding.EncodeToString([]byte(strings.ReplaceAll(old, `"S"`, `"`+secret+`"`)))
	s, err := ParseSignIn(text)
	if err != nil || s.pending.Redirect != "" {
		t.Fatalf("got %v, %v", s, err)
	}
	if s.Encode() != text {
		t.Error("it is encoded in another way")
	}
	s.pending.Redirect = "http://localhost:1234"
	if s, err = ParseSignIn(s.Encode()); err != nil || s.pending.Redirect != "http://localhost:1234" {
		t.Errorf("got %v, %v", s, err)
	}
}

// TestListenBusy: with a free port on one address family only, another is tried.
func TestListenBusy(t *testing.T) {
	t.Parallel()
	l := &loopback{host: "localhost", open: listenAt}
	if !l.hasIPv6(t.Context()) {
		t.Skip("this machine has no IPv6")
	}
	list, err := l.listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, one := range list {
			_ = one.Close()
		}
	})
	ports := make(map[string]bool)
	for _, one := range list {
		_, port, err := net.SplitHostPort(one.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports[port] = true
	}
	if len(list) != 2 || len(ports) != 1 || !ports[l.port] {
		t.Errorf("ports %v on %d addresses", ports, len(list))
	}
	if _, err := l.listenOn(t.Context(), l.port); err == nil {
		t.Error("the port is listened on twice")
	}
	if err := list[0].Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.listenOn(t.Context(), l.port); err == nil {
		t.Error("the port is listened on by two programs, one for each address family")
	}
	again, err := net.Listen("tcp", "127.0.0.1:"+l.port) // nothing was left
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// TestListenWithoutIPv6 is a machine that has none.
func TestListenWithoutIPv6(t *testing.T) {
	t.Parallel()
	l := &loopback{host: "localhost", open: func(ctx context.Context, ip, port string) (net.Listener, error) {
		if ip == "::1" {
			return nil, &net.OpError{Op: "listen", Err: errors.New("cannot assign requested address")}
		}
		return listenAt(ctx, ip, port)
	}}
	list, err := l.listen(t.Context())
	if err != nil || len(list) != 1 || l.port == "" || l.port == "0" {
		t.Fatalf("got %d listeners on port %q, %v", len(list), l.port, err)
	}
	_ = list[0].Close()
}

// TestLandingHost compares Host headers with redirect URLs.
func TestLandingHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url, host string
		want      bool
	}{
		{"http://localhost:80/x", "localhost", true},
		{"http://localhost:80", "localhost:80", true},
		{"http://localhost:81", "localhost", false},
		{"http://localhost:81", "LocalHost:81", true},
		{"http://localhost:81", "localhost:81.", false},
		{"http://localhost:81", "localhost.:81", false},
		{"http://localhost:81", "", false},
		{"http://[::1]:81", "[::1]:81", true},
		{"http://[::1]:81", "::1:81", false},
	} {
		l, err := parseLoopback(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		if l.url() != tt.url {
			t.Errorf("%s became %s", tt.url, l.url())
		}
		if l.isHost(tt.host) != tt.want {
			t.Errorf("%s of %s: got %v", tt.host, tt.url, !tt.want)
		}
	}
}
