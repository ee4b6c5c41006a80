package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// config is what the flags and the environment say.
type config struct {
	addr          string
	nodes         int
	client        string
	issuer        string
	issuerCA      string
	idpAddr       string
	idpCertFile   string
	autoLogin     bool
	tokenLifetime time.Duration
	provider      string
	redisURL      string // may hold a password: not for logs and errors
	postgresURL   string // the same
	sqlitePath    string
	keysFile      string
	newKeys       bool
	url           string // without a slash at the end
	logLevel      slog.Level
	patience      time.Duration // not a flag: tests have less of it, or more
	sweepPause    time.Duration // not a flag either
}

// usageError is a mistake in the flags or the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

const maxNodes = 16

// parseConfig reads the environment first and then the flags, which win. Help,
// if it is asked for, goes to out, and the error is flag.ErrHelp.
func parseConfig(args []string, env func(string) string, out io.Writer) (config, error) {
	c := config{patience: defaultPatience, sweepPause: defaultSweepPause}
	fs := c.flags()
	fs.SetOutput(io.Discard) // main prints the error, once
	var err error
	fs.VisitAll(func(f *flag.Flag) {
		name := envName(f.Name)
		value := env(name)
		if value == "" || err != nil {
			return
		}
		if serr := fs.Set(f.Name, value); serr != nil {
			err = fmt.Errorf("%s: invalid value %q", name, value)
		}
	})
	if err != nil {
		return c, &usageError{err}
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		printHelp(fs, out)
		return c, err
	} else if err != nil {
		return c, &usageError{err}
	}
	if fs.NArg() > 0 {
		return c, &usageError{unexpected(fs.Arg(0))}
	}
	c.url = strings.TrimSuffix(c.url, "/")
	if err := c.check(); err != nil {
		return c, &usageError{err}
	}
	return c, nil
}

func (c *config) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("webapp", flag.ContinueOnError)
	fs.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`address` to serve on; node k has port + k")
	fs.IntVar(&c.nodes, "nodes", 1, "`number` of nodes, each with its own cache over the same provider and sessions")
	fs.StringVar(&c.client, "client", withXOAuth2, "who asks the identity server for tokens, by `name`: xoauth2; or msal, Microsoft's library, "+
		"for which the built-in identity server speaks https")
	fs.StringVar(&c.issuer, "issuer", "", "issuer `URL` of a running identity server to use instead of the built-in one")
	fs.StringVar(&c.issuerCA, "issuer-ca", "", "`file` with the certificates (PEM) to trust when -issuer is https, in place of those that this machine trusts")
	fs.StringVar(&c.idpAddr, "idp-addr", "127.0.0.1:8090", "`address` of the built-in identity server")
	fs.StringVar(&c.idpCertFile, "idp-cert-file", "", "`file` that the built-in identity server of -client msal writes its certificate to, for the -issuer-ca of others")
	fs.BoolVar(&c.autoLogin, "auto-login", false, "let the built-in identity server sign the hinted user in without a page")
	fs.DurationVar(&c.tokenLifetime, "token-lifetime", 10*time.Minute, "`duration` of access tokens from the built-in identity server")
	fs.TextVar(&c.logLevel, "log-level", slog.LevelWarn, "lowest `level` to log: error, warn, info or debug, which logs every event of the cache")
	fs.StringVar(&c.provider, "provider", inMemory, "where tokens and sessions are kept, by `name`: memory; or redis, postgres or sqlite, which processes can share")
	fs.StringVar(&c.redisURL, "redis-url", "", "`URL` of Redis: redis://127.0.0.1:6379/0 on this machine, rediss://user:password@host:6379/0 elsewhere; "+
		"others may see the flags of a process: a password is better kept in the variable")
	fs.StringVar(&c.postgresURL, "postgres-url", "", "`URL` of PostgreSQL: postgres://user:password@127.0.0.1:5432/database on this machine, "+
		"with ?sslmode=verify-full elsewhere; the password is better kept in the variable here too")
	fs.StringVar(&c.sqlitePath, "sqlite-path", "", "`file` of SQLite, on a disk of this computer; it is made if it is not there")
	fs.StringVar(&c.keysFile, "keys-file", "", "`file` with the keys that encrypt what leaves this process, the same for all that share it")
	fs.BoolVar(&c.newKeys, "new-keys", false, "write new keys to -keys-file, which must not exist yet, and exit")
	fs.StringVar(&c.url, "url", "", "`URL` at which browsers find the app, if something in front of it has another address")
	return fs
}

// unexpected tells of an argument, but not what it is if it may be a URL with a
// password in the wrong place.
func unexpected(arg string) error {
	if strings.Contains(arg, ":") {
		return errors.New("unexpected argument, perhaps a URL")
	}
	return fmt.Errorf("unexpected argument %q", arg)
}

func envName(flagName string) string {
	return "COATCHECK_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

func printHelp(fs *flag.FlagSet, out io.Writer) {
	text := "The example application of coatcheck.\n\nUsage: webapp [flags]\n\n" +
		"Each flag is also an environment variable, shown beside it.\n"
	fs.VisitAll(func(f *flag.Flag) {
		arg, usage := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			usage += " (default " + strings.ToLower(f.DefValue) + ")" // slog writes its levels in capitals
		}
		text += fmt.Sprintf("\n  %-28s %s\n      %s\n", "-"+f.Name+" "+arg, envName(f.Name), usage)
	})
	_, _ = io.WriteString(out, text) // nobody has to read it
}

// check refuses what would fail later with a less helpful error.
func (c *config) check() error {
	switch {
	case c.nodes < 1 || c.nodes > maxNodes:
		return fmt.Errorf("-nodes %d: must be from 1 to %d", c.nodes, maxNodes)
	case c.tokenLifetime < time.Second || c.tokenLifetime > 24*time.Hour:
		return fmt.Errorf("-token-lifetime %s: must be from 1s to 24h", c.tokenLifetime)
	}
	if err := c.checkStore(); err != nil {
		return err
	}
	if err := c.checkClient(); err != nil {
		return err
	}
	for k := range c.nodes {
		if _, err := c.nodeAddr(k); err != nil {
			return fmt.Errorf("-addr %q: %w", c.addr, err)
		}
	}
	if err := c.checkURL(); err != nil {
		return err
	}
	if c.issuer != "" {
		return checkIssuer(c.issuer)
	}
	if err := checkLoopback(c.idpAddr); err != nil {
		return fmt.Errorf("-idp-addr %q: %w", c.idpAddr, err)
	}
	return nil
}

func (c *config) checkStore() error {
	b := backendOf(c.provider)
	if b == nil && c.provider != inMemory {
		return errors.New("-provider: must be memory, redis, postgres or sqlite")
	}
	for _, other := range backends {
		if b == nil && other.where(c) != "" {
			return fmt.Errorf("-%s: is for -provider %s", other.flag, other.name)
		}
	}
	switch {
	case c.newKeys && c.keysFile == "":
		return errors.New("-new-keys: -keys-file must say where to write them")
	case c.newKeys: // nothing else is going to be used
		return nil
	case b == nil && c.keysFile != "":
		return errors.New("-keys-file: is for -provider redis, postgres or sqlite; what stays in this process needs no keys")
	case b == nil:
		return nil
	case b.where(c) == "":
		return fmt.Errorf("-provider %s: -%s must say where it is, such as %s", b.name, b.flag, b.example)
	case c.keysFile == "":
		return fmt.Errorf("-provider %s: -keys-file must name the keys that encrypt the tokens, as those leave this process; "+
			"-new-keys -keys-file FILE makes a new file of keys", b.name)
	}
	return b.check(b.where(c))
}

// checkURL refuses an address that browsers could not sign in at.
func (c *config) checkURL() error {
	if c.url == "" {
		return nil
	}
	u, err := url.Parse(c.url)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return fmt.Errorf("-url %q: must be an http or https URL", c.url)
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("-url %q: must be a scheme, a host and perhaps a port", c.url)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("-url %q: must be https, as cookies travel to it", c.url)
	case u.Scheme == "https" && c.issuer == "":
		return fmt.Errorf("-url %q: the built-in identity server sends browsers to http on this machine only: see -issuer", c.url)
	case c.nodes > 1:
		return fmt.Errorf("-url %q: is of one node, and -nodes is %d", c.url, c.nodes)
	}
	return nil
}

// nodeAddr is where node k listens. Port 0 means a free port for each.
func (c *config) nodeAddr(k int) (string, error) {
	if err := checkLoopback(c.addr); err != nil {
		return "", err
	}
	host, text, _ := net.SplitHostPort(c.addr) // checked
	port, _ := strconv.Atoi(text)              // checked
	if port == 0 {
		k = 0
	}
	if port+k > 65535 {
		return "", fmt.Errorf("node %d would need port %d", k, port+k)
	}
	return net.JoinHostPort(host, strconv.Itoa(port+k)), nil
}

// checkLoopback keeps the example on this machine: it speaks plain HTTP, and
// its identity server signs anybody in.
func checkLoopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("must be host:port, such as 127.0.0.1:8080")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return errors.New("the port must be a number from 0 to 65535")
	}
	if !isLoopback(host) {
		return errors.New("must be a loopback address, such as 127.0.0.1: the example is for this machine only")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("-issuer %q: must be an http or https URL", issuer)
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return fmt.Errorf("-issuer %q: must be https, as tokens travel to it", issuer)
	}
	return nil
}
