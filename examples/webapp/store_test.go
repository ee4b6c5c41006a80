package main

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const markerPassword = "marker-password"

// TestParseRedisURL checks what is taken, and that no mistake shows the password.
func TestParseRedisURL(t *testing.T) {
	t.Parallel()
	good := map[string]redis.Options{
		"redis://127.0.0.1:6379/0":                            {Addr: "127.0.0.1:6379"},
		"redis://127.0.0.1":                                   {Addr: "127.0.0.1:6379"},
		"redis://localhost:7000/3":                            {Addr: "localhost:7000", DB: 3},
		"redis://[::1]:7000":                                  {Addr: "[::1]:7000"},
		"redis://:" + markerPassword + "@127.0.0.1:1/":        {Addr: "127.0.0.1:1", Password: markerPassword},
		"rediss://ada:marker%2F%40x@redis.example.com:6380/1": {Addr: "redis.example.com:6380", Username: "ada", Password: "marker/@x", DB: 1},
	}
	for text, want := range good {
		o, err := parseRedisURL(text)
		if err != nil {
			t.Errorf("%s: %v", want.Addr, err)
			continue
		}
		if o.Addr != want.Addr || o.DB != want.DB || o.Username != want.Username || o.Password != want.Password {
			t.Errorf("%s: got another address, database or user", want.Addr)
		}
		if tls := o.TLSConfig != nil; tls != strings.HasPrefix(text, "rediss:") {
			t.Errorf("%s: TLS is %t", want.Addr, tls)
		}
	}
	bad := map[string]string{
		"":          "must be like",
		"localhost": "must be like",
		"http://:" + markerPassword + "@127.0.0.1":              "must be like",
		"unix://:" + markerPassword + "@/var/run/redis":         "must be like",
		"redis://:" + markerPassword + "@":                      "must be like",
		"redis://:" + markerPassword + "@:6379":                 "must be like",
		"redis://:" + markerPassword + "/x@127.0.0.1":           "must be like",
		"redis://:" + markerPassword + "#x@127.0.0.1":           "must be like",
		"redis://:" + markerPassword + "%zz@127.0.0.1":          "must be like",
		"redis://:" + markerPassword + "@127.0.0.1:port":        "must be like",
		"redis://:" + markerPassword + "@127.0.0.1 \n":          "must be like",
		markerPassword + "://127.0.0.1":                         "must be like",
		"redis://127.0.0.1/0?password=" + markerPassword:        "no parameters",
		"redis://127.0.0.1/0#" + markerPassword:                 "no parameters",
		"redis://:" + markerPassword + "@192.0.2.1:6379":        "rediss://",
		"redis://:" + markerPassword + "@redis.example.com":     "rediss://",
		"redis://:" + markerPassword + "@127.0.0.1.example.com": "rediss://",
		"redis://127.0.0.1/" + markerPassword:                   "number of the database",
		"redis://127.0.0.1/0/" + markerPassword:                 "number of the database",
	}
	for text, want := range bad {
		_, err := parseRedisURL(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", strings.ReplaceAll(text, "marker", "m"), err)
		}
		if err != nil && strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: the error shows the password", strings.ReplaceAll(text, "marker", "m"))
		}
	}
}

// TestURLInTheWrongPlace: no mistake shows a password that stands elsewhere.
func TestURLInTheWrongPlace(t *testing.T) {
	t.Parallel()
	url := "redis://:" + markerPassword + "@127.0.0.1:6379"
	for _, args := range [][]string{{url}, {"-provider=" + url}, {"-redis-url=" + url}, {"-provider=redis", "-redis-url", url}, {"-redis-ulr=" + url}} {
		_, err := parseConfig(args, noEnv, io.Discard)
		if err == nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("%.14s: no error, or it shows the password", args[0])
		}
	}
}

// TestNewKeys writes a key file, once.
func TestNewKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	args := []string{"-new-keys", "-keys-file", path}
	var out strings.Builder
	if err := run(t.Context(), args, noEnv, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), path) || !strings.Contains(out.String(), "-provider") {
		t.Errorf("it says %q", out.String())
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got the mode %v, %v", info.Mode(), err)
	}
	if _, err := loadKeys(t.Context(), path); err != nil {
		t.Error(err)
	}
	var usage *usageError
	err = run(t.Context(), args, noEnv, io.Discard, io.Discard)
	if err == nil || errors.As(err, &usage) || !strings.Contains(err.Error(), "stays as it is") {
		t.Errorf("a second time: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Error("the keys are others now:", err)
	}
	if err := run(t.Context(), []string{"-new-keys", "-keys-file", filepath.Join(path, "x")}, noEnv, io.Discard, io.Discard); err == nil {
		t.Error("no error where there is no such directory")
	}
}

// TestBadKeysFile checks what is said of key files that cannot be used, which is
// before Redis is asked for anything.
func TestBadKeysFile(t *testing.T) {
	t.Parallel()
	file := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := string(tokencache.NewKeyText())
	tests := map[string]struct{ path, want string }{
		"absent":    {filepath.Join(t.TempDir(), "none"), "-new-keys"},
		"directory": {t.TempDir(), "regular file"},
		"for all":   {file(good, 0o644), "chmod 600"},
		"empty":     {file("", 0o600), "key set"},
		"malformed": {file("marker-key", 0o600), "key set"},
		"short":     {file(`{"names":"marker-key","seal":[]}`, 0o600), "key set"},
	}
	for name, test := range tests {
		_, err := loadKeys(t.Context(), test.path)
		if err == nil || !strings.Contains(err.Error(), "-keys-file") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: the error shows the file", name)
		}
	}
}

// TestRedisDoesNotAnswer: a start without Redis fails soon, says why, and does not
// tell the password; and nothing is left running.
func TestRedisDoesNotAnswer(t *testing.T) {
	t.Parallel()
	locked, paused := testserver.NewRedis(t), testserver.NewRedis(t)
	admin := redis.NewClient(&redis.Options{Addr: locked.Addr()})
	defer func() { _ = admin.Close() }()
	if err := admin.ConfigSet(t.Context(), "requirepass", "marker-other").Err(); err != nil {
		t.Fatal(err)
	}
	if err := paused.Pause(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // which accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	tests := map[string]struct{ addr, want string }{
		"nobody there":   {"127.0.0.1:1", "refused"},
		"wrong password": {locked.Addr(), "WRONGPASS"},
		"paused":         {paused.Addr(), "timeout"},
		"another server": {silent.Addr().String(), "timeout"},
	}
	for name, test := range tests {
		keys := redisFlags(t, test.addr)[2]
		args := []string{"-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0", "-provider=redis", keys, "-redis-url=redis://:" + markerPassword + "@" + test.addr}
		var logs buffer
		began := time.Now()
		err := run(t.Context(), args, noEnv, io.Discard, &logs)
		if err == nil || !strings.Contains(err.Error(), "-redis-url") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if strings.Contains(logs.String()+errorText(err), "marker") {
			t.Errorf("%s: the log or the error shows the password", name)
		}
		if took := time.Since(began); took > answerTimeout+time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
