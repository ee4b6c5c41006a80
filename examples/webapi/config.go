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

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// config is what the flags and the environment say.
type config struct {
	addr          string // of the web app
	ordersAddr    string
	pricesAddr    string
	issuer        string
	idpAddr       string
	autoLogin     bool
	tokenLifetime time.Duration
	provider      string
	redisURL      string // may hold a password: not for logs and errors
	keysFile      string
	newKeys       bool
	logLevel      slog.Level

	// Not flags, but for tests: how long a request waits for a token, and what
	// looks at all that is stored.
	patience time.Duration
	watch    func(tokencache.Provider) tokencache.Provider
}

// usageError is a mistake in the flags or the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// parseConfig reads the environment first and then the flags, which win. Help,
// if it is asked for, goes to out, and the error is flag.ErrHelp.
func parseConfig(args []string, env func(string) string, out io.Writer) (config, error) {
	c := config{patience: defaultPatience}
	fs := c.flags()
	fs.SetOutput(io.Discard) // main prints the error, once
	var err error
	fs.VisitAll(func(f *flag.Flag) {
		name := envName(f.Name)
		value := env(name)
		if value == "" || err != nil {
			return
		}
		if fs.Set(f.Name, value) != nil {
			err = fmt.Errorf("%s: the value is not valid", name)
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
		return c, &usageError{errors.New("there is an argument that is no flag")} // perhaps a URL with a password
	}
	if err := c.check(); err != nil {
		return c, &usageError{err}
	}
	return c, nil
}

func (c *config) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("webapi", flag.ContinueOnError)
	fs.StringVar(&c.addr, "addr", "127.0.0.1:8060", "`address` of the web app, the one to open")
	fs.StringVar(&c.ordersAddr, "orders-addr", "127.0.0.1:8061", "`address` of the orders API, which the web app calls")
	fs.StringVar(&c.pricesAddr, "prices-addr", "127.0.0.1:8062", "`address` of the prices API, which the orders API calls")
	fs.StringVar(&c.idpAddr, "idp-addr", "127.0.0.1:8070", "`address` of the built-in identity server")
	fs.StringVar(&c.issuer, "issuer", "", "issuer `URL` of a running identity server to use instead of the built-in one, such as that of another webapi")
	fs.BoolVar(&c.autoLogin, "auto-login", false, "let the built-in identity server sign the hinted user in without a page, and ask for no consent")
	fs.DurationVar(&c.tokenLifetime, "token-lifetime", 10*time.Minute, "`duration` of access tokens from the built-in identity server")
	fs.StringVar(&c.provider, "provider", inMemory, "where the web app and the orders API keep tokens, by `name`: memory; or redis, which several processes can share")
	fs.StringVar(&c.redisURL, "redis-url", "", "`URL` of Redis: redis://127.0.0.1:6379/0 on this machine, rediss://user:password@host:6379/0 elsewhere; "+
		"others may see the flags of a process: a password is better kept in the variable")
	fs.StringVar(&c.keysFile, "keys-file", "", "`file` with the keys that encrypt what leaves this process, the same for all that share it")
	fs.BoolVar(&c.newKeys, "new-keys", false, "write new keys to -keys-file, which must not exist yet, and exit")
	fs.TextVar(&c.logLevel, "log-level", slog.LevelWarn, "lowest `level` to log: error, warn, info or debug, which logs every event of the caches")
	return fs
}

func envName(flagName string) string {
	return "COATCHECK_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

func printHelp(fs *flag.FlagSet, out io.Writer) {
	text := "The example of web APIs with coatcheck: a web app, an API that it calls for its\n" +
		"users, and a second API that the first one calls for them.\n\nUsage: webapi [flags]\n\n" +
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
	if c.tokenLifetime < time.Second || c.tokenLifetime > 24*time.Hour {
		return fmt.Errorf("-token-lifetime %s: must be from 1s to 24h", c.tokenLifetime)
	}
	if err := c.checkStore(); err != nil {
		return err
	}
	addresses := [][2]string{{"addr", c.addr}, {"orders-addr", c.ordersAddr}, {"prices-addr", c.pricesAddr}}
	if c.issuer == "" {
		addresses = append(addresses, [2]string{"idp-addr", c.idpAddr})
	}
	for _, a := range addresses {
		if err := checkLoopback(a[1]); err != nil {
			return fmt.Errorf("-%s %q: %w", a[0], a[1], err)
		}
	}
	if c.issuer != "" {
		return checkIssuer(c.issuer)
	}
	return nil
}

func (c *config) checkStore() error {
	switch {
	case c.provider != inMemory && c.provider != inRedis:
		return errors.New("-provider: must be memory or redis")
	case c.newKeys && c.keysFile == "":
		return errors.New("-new-keys: -keys-file must say where to write them")
	case c.newKeys: // nothing else is going to be used
		return nil
	case c.provider == inMemory && c.redisURL != "":
		return errors.New("-redis-url: is for -provider redis")
	case c.provider == inMemory && c.keysFile != "":
		return errors.New("-keys-file: is for -provider redis; what stays in this process needs no keys")
	case c.provider == inMemory:
		return nil
	case c.redisURL == "":
		return errors.New("-provider redis: -redis-url must say where it is, such as redis://127.0.0.1:6379/0")
	case c.keysFile == "":
		return errors.New("-provider redis: -keys-file must name the keys that encrypt the tokens, as those leave this process; " +
			"-new-keys -keys-file FILE makes a new file of keys")
	}
	_, err := parseRedisURL(c.redisURL)
	return err
}

// checkLoopback keeps the example on this machine: it speaks plain HTTP, and
// its identity server signs anybody in.
func checkLoopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("must be host:port, such as 127.0.0.1:8060")
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
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("-issuer: must be an http or https URL")
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return errors.New("-issuer: must be https, as tokens travel to it")
	}
	return nil
}
