package main

import (
	"errors"
	"flag"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	defaults := config{
		addr: "127.0.0.1:8080", nodes: 1, client: "xoauth2", idpAddr: "127.0.0.1:8090",
		tokenLifetime: 10 * time.Minute, provider: "memory", logLevel: slog.LevelWarn,
	}
	changed := defaults
	changed.addr, changed.nodes, changed.autoLogin, changed.tokenLifetime = "localhost:9000", 3, true, 90*time.Second
	talkative := defaults
	talkative.logLevel = slog.LevelDebug
	elsewhere := defaults
	elsewhere.issuer = "http://127.0.0.1:9090"
	shared := defaults
	shared.provider, shared.redisURL, shared.keysFile = "redis", "redis://127.0.0.1:6379/0", "keys.json"
	sql := defaults
	sql.provider, sql.postgresURL, sql.keysFile = "postgres", "postgres://127.0.0.1/app", "keys.json"
	file := defaults
	file.provider, file.sqlitePath, file.keysFile = "sqlite", "a b?.db", "keys.json"
	public := shared
	public.url, public.issuer = "https://app.example.com", "https://login.example.com"
	microsofts := defaults
	microsofts.client, microsofts.idpCertFile = "msal", "idp.pem"
	tenant := defaults
	tenant.client, tenant.issuer, tenant.issuerCA = "msal", "https://127.0.0.1:8090/tenant/v2.0", "idp.pem"
	trusting := defaults
	trusting.issuer, trusting.issuerCA = "https://login.example.com", "ca.pem"
	keys := defaults
	keys.newKeys, keys.keysFile = true, "keys.json"
	env := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for _, p := range pairs {
			name, value, _ := strings.Cut(p, "=")
			m["COATCHECK_"+name] = value
		}
		return m
	}
	tests := map[string]struct {
		args []string
		env  map[string]string
		want config
	}{
		"defaults":        {want: defaults},
		"one dash":        {args: []string{"-addr=localhost:9000", "-nodes", "3", "-auto-login", "-token-lifetime=90s"}, want: changed},
		"two dashes":      {args: []string{"--addr", "localhost:9000", "--nodes=3", "--auto-login", "--token-lifetime", "90s"}, want: changed},
		"environment":     {env: env("ADDR=localhost:9000", "NODES=3", "AUTO_LOGIN=1", "TOKEN_LIFETIME=90s"), want: changed},
		"flags win":       {args: []string{"-addr=localhost:9000", "-nodes=3", "-auto-login=true", "-token-lifetime=90s"}, env: env("ADDR=127.0.0.1:1", "NODES=9", "AUTO_LOGIN=0"), want: changed},
		"empty is unset":  {env: env("ADDR=", "NODES="), want: defaults},
		"log level":       {args: []string{"-log-level=debug"}, want: talkative},
		"issuer":          {args: []string{"-issuer", "http://127.0.0.1:9090"}, want: elsewhere},
		"redis":           {args: []string{"-provider=redis", "-redis-url=redis://127.0.0.1:6379/0", "-keys-file", "keys.json"}, want: shared},
		"redis from env":  {env: env("PROVIDER=redis", "REDIS_URL=redis://127.0.0.1:6379/0", "KEYS_FILE=keys.json"), want: shared},
		"url":             {args: []string{"-url=https://app.example.com/", "-issuer=https://login.example.com"}, env: env("PROVIDER=redis", "REDIS_URL=redis://127.0.0.1:6379/0", "KEYS_FILE=keys.json"), want: public},
		"postgres":        {args: []string{"-provider=postgres", "-postgres-url=postgres://127.0.0.1/app", "-keys-file=keys.json"}, want: sql},
		"sqlite":          {args: []string{"-provider=sqlite", "-sqlite-path=a b?.db", "-keys-file=keys.json"}, want: file},
		"sqlite from env": {env: env("PROVIDER=sqlite", "SQLITE_PATH=a b?.db", "KEYS_FILE=keys.json"), want: file},
		"msal":            {args: []string{"-client=msal", "-idp-cert-file=idp.pem"}, want: microsofts},
		"msal from env":   {env: env("CLIENT=msal", "IDP_CERT_FILE=idp.pem"), want: microsofts},
		"tenant":          {args: []string{"-issuer=https://127.0.0.1:8090/tenant/v2.0", "-issuer-ca=idp.pem"}, env: env("CLIENT=msal"), want: tenant},
		"issuer's ca":     {args: []string{"-issuer=https://login.example.com", "-issuer-ca=ca.pem"}, want: trusting},
		"new keys":        {args: []string{"-new-keys"}, env: env("KEYS_FILE=keys.json"), want: keys},
		"issuer from env": {env: env("ISSUER=http://127.0.0.1:9090", "IDP_ADDR=127.0.0.1:8090", "PROVIDER=memory"), want: elsewhere},
	}
	for name, test := range tests {
		got, err := parseConfig(test.args, func(key string) string { return test.env[key] }, io.Discard)
		test.want.patience, test.want.sweepPause = defaultPatience, defaultSweepPause
		if err != nil || got != test.want {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ args, want string }{
		{"-nodes=0", "-nodes"},
		{"-nodes=17", "-nodes"},
		{"-nodes=x", "nodes"},
		{"-addr=8080", "-addr"},
		{"-addr=0.0.0.0:8080", "loopback"},
		{"-addr=:8080", "loopback"},
		{"-addr=127.0.0.1:http", "port"},
		{"-addr=127.0.0.1:70000", "port"},
		{"-idp-addr=192.0.2.1:1", "loopback"},
		{"-issuer=example.com", "-issuer"},
		{"-issuer=http://example.com", "https"},
		{"-client=azure", "-client"},
		{"-client=msal -issuer=http://127.0.0.1:8090", "-client msal"},
		{"-client=msal -issuer=http://127.0.0.1:8090/tenant/v2.0", "https"},
		{"-client=msal -issuer=https://127.0.0.1:8090", "/TENANT/v2.0"},
		{"-client=msal -issuer=https://127.0.0.1:8090/v2.0", "/TENANT/v2.0"},
		{"-client=msal -issuer=https://127.0.0.1:8090/tenant/v2.0/", "/TENANT/v2.0"},
		{"-client=msal -issuer=https://127.0.0.1:8090/tenant/v2.0?x", "/TENANT/v2.0"},
		{"-client=msal -issuer=https://[::1/tenant/v2.0", "-issuer"},
		{"-client=msal -issuer=https:///tenant/v2.0", "-issuer"},
		{"-idp-cert-file=x", "-client msal"},
		{"-client=msal -idp-cert-file=x -issuer=https://127.0.0.1:8090/tenant/v2.0", "-idp-cert-file"},
		{"-issuer-ca=x", "https"},
		{"-issuer-ca=x -issuer=http://127.0.0.1:8090", "https"},
		{"-token-lifetime=0s", "-token-lifetime"},
		{"-token-lifetime=25h", "-token-lifetime"},
		{"-token-lifetime=10", "token-lifetime"},
		{"-provider=redis", "-redis-url"},
		{"-provider=sql", "-provider"},
		{"-provider=postgres", "-postgres-url"},
		{"-provider=postgres -postgres-url=postgres://127.0.0.1/app", "-new-keys -keys-file"},
		{"-provider=postgres -postgres-url=postgres://127.0.0.1/app", "leave this process"},
		{"-provider=postgres -keys-file=x", "-postgres-url"},
		{"-provider=postgres -keys-file=x -postgres-url=postgres://192.0.2.1/app", "sslmode=verify-full"},
		{"-provider=postgres -keys-file=x -postgres-url=redis://127.0.0.1", "-postgres-url"},
		{"-provider=postgres -keys-file=x -redis-url=redis://127.0.0.1", "-postgres-url"},
		{"-postgres-url=postgres://127.0.0.1/app", "-provider postgres"},
		{"-provider=sqlite", "-sqlite-path"},
		{"-provider=sqlite -sqlite-path=x.db", "-new-keys -keys-file"},
		{"-provider=sqlite -sqlite-path=x.db", "leave this process"},
		{"-provider=sqlite -keys-file=x", "-sqlite-path"},
		{"-provider=sqlite -keys-file=x -sqlite-path=file:x.db", "no URL"},
		{"-provider=sqlite -keys-file=x -sqlite-path=postgres://127.0.0.1/app", "no URL"},
		{"-provider=sqlite -keys-file=x -sqlite-path=:memory:", "the path of a file"},
		{"-sqlite-path=x.db", "-provider sqlite"},
		{"-provider=redis -redis-url=redis://127.0.0.1", "-new-keys -keys-file"},
		{"-provider=redis -redis-url=redis://127.0.0.1", "leave this process"},
		{"-provider=redis -keys-file=x", "-redis-url"},
		{"-provider=redis -keys-file=x -redis-url=redis://192.0.2.1", "rediss://"},
		{"-provider=redis -keys-file=x -redis-url=postgres://127.0.0.1", "-redis-url"},
		{"-redis-url=redis://127.0.0.1", "-provider redis"},
		{"-keys-file=x", "-provider redis"},
		{"-new-keys", "-keys-file"},
		{"-new-keys -keys-file=x -redis-url=redis://127.0.0.1", "-redis-url"},
		{"-url=app.example.com", "-url"},
		{"-url=ftp://127.0.0.1", "-url"},
		{"-url=http://", "-url"},
		{"-url=http://app.example.com", "https"},
		{"-url=https://app.example.com", "-issuer"},
		{"-url=http://127.0.0.1:8080/app", "-url"},
		{"-url=http://ada:x@127.0.0.1:8080", "-url"},
		{"-url=http://127.0.0.1:8080 -nodes=2", "-nodes"},
		{"-auto-login=maybe", "auto-login"},
		{"-log-level=loud", "log-level"},
		{"-unknown", "unknown"},
		{"extra", "extra"},
	}
	for _, test := range tests {
		_, err := parseConfig(strings.Fields(test.args), noEnv, io.Discard)
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want a mistake that names %s", test.args, err, test.want)
		}
	}
	_, err := parseConfig(nil, func(name string) string {
		return map[string]string{"COATCHECK_NODES": "many"}[name]
	}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "COATCHECK_NODES") {
		t.Errorf("got %v, want a mistake that names the variable", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"-h", "-help", "--help"} {
		var out strings.Builder
		if _, err := parseConfig([]string{arg}, noEnv, &out); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%s: got %v", arg, err)
		}
		for _, want := range []string{"-addr address", "COATCHECK_TOKEN_LIFETIME", "(default 10m0s)", "-redis-url URL", "-postgres-url URL", "COATCHECK_POSTGRES_URL", "-sqlite-path file", "COATCHECK_KEYS_FILE", "-new-keys",
			"-client name", "(default xoauth2)", "COATCHECK_CLIENT", "-issuer-ca file", "-idp-cert-file file"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s does not show %s: %s", arg, want, out.String())
			}
		}
	}
}
