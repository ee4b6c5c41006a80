package main

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// commandLine has the flags of all commands, and the commands.
type commandLine struct {
	Issuer   string        `placeholder:"URL" env:"COATCHECK_ISSUER" help:"OpenID Connect server to sign in at, such as https://login.microsoftonline.com/TENANT/v2.0. Without it, a local one is started that signs anybody in."`
	ClientID string        `name:"client-id" placeholder:"ID" env:"COATCHECK_CLIENT_ID" help:"Public client that is registered there, with the redirect URL http://localhost (Entra ID) or http://127.0.0.1 (others)."`
	Client   string        `enum:"xoauth2,msal" default:"xoauth2" env:"COATCHECK_CLIENT" help:"Library that asks for tokens: xoauth2 or msal."`
	Scope    []string      `placeholder:"SCOPE" sep:" " env:"COATCHECK_SCOPE" help:"What the token is for; may be repeated. login asks for it, and token returns one that has it."`
	Addr     string        `placeholder:"HOST:PORT" env:"COATCHECK_ADDR" help:"Where the local server is (127.0.0.1:8075, with msal 127.0.0.1:8076)."`
	Name     string        `default:"coatcheck-cli" env:"COATCHECK_NAME" help:"Name of the token cache."`
	Dir      string        `type:"path" placeholder:"DIR" env:"COATCHECK_DIR" help:"Its directory. Defaults to coatcheck in the user's data directory."`
	PassFile string        `name:"passphrase-file" type:"path" placeholder:"FILE" env:"COATCHECK_PASSPHRASE_FILE" help:"File with a passphrase that protects the cache in place of the system's key store; its mode is 0600. So does $$COATCHECK_PASSPHRASE."`
	Plain    bool          `name:"allow-unencrypted-storage" env:"COATCHECK_ALLOW_UNENCRYPTED_STORAGE" help:"Store tokens as plain text where the system has no key store."`
	JSON     bool          `name:"json" help:"Print one JSON object; messages and errors are JSON too, on standard error."`
	Quiet    bool          `short:"q" help:"Show no progress."`
	Timeout  time.Duration `placeholder:"TIME" help:"How long the command may take (2m; login 15m)."`

	Login    loginCmd    `cmd:"" help:"Sign in; again for another account."`
	Whoami   whoamiCmd   `cmd:"" help:"Tell who is signed in, without asking the server."`
	Token    tokenCmd    `cmd:"" help:"Print an access token, from the cache or refreshed."`
	Accounts accountsCmd `cmd:"" help:"List who is signed in."`
	Logout   logoutCmd   `cmd:"" help:"Sign out: forget the tokens, and revoke them at the server."`
	Serve    serveCmd    `cmd:"" help:"Run the local server here, until Ctrl-C."`
}

// oneAccount is the flag of commands for which there has to be one account.
type oneAccount struct {
	Account string `placeholder:"USERNAME" help:"Which account, if several are signed in: a user name, or the ID that accounts --json has."`
}

// clientID is what the program is called at the local server.
const clientID = "coatcheck-cli"

// tenantPath ends an issuer that is shaped like Microsoft Entra ID's.
var tenantPath = regexp.MustCompile(`/[^/]+/v2\.0$`)

// Validate is called by the parser.
func (c *commandLine) Validate() error {
	if c.Timeout < 0 {
		return errors.New("--timeout must not be negative")
	}
	if c.Addr != "" && !isLoopback(c.Addr) {
		return errors.New("--addr must be a port of this machine, such as 127.0.0.1:8075")
	}
	if c.Issuer == "" {
		if c.ClientID != "" {
			return errors.New("--client-id is for an --issuer; the local server knows this program")
		}
		return nil
	}
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("--issuer must be an https URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("--issuer must have no user, query and fragment")
	case u.Scheme == "http" && !isLoopback(net.JoinHostPort(u.Hostname(), "0")):
		return errors.New("--issuer must be https, unless it is on this machine: tokens would be sent in the clear")
	case c.ClientID == "":
		return errors.New("--issuer needs the --client-id that this program has there")
	case c.Client == "msal" && (u.Scheme != "https" || !tenantPath.MatchString(u.Path)):
		return errors.New("--client msal needs an --issuer that is https and has a tenant, such as https://login.microsoftonline.com/TENANT/v2.0")
	}
	return nil
}

// isLoopback tells whether an address with a port is this machine's own.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// withTwoDashes accepts -issuer for --issuer, as the other examples have it, and the
// like for all flags whose name has more than a letter.
func withTwoDashes(parser *kong.Kong, args []string) []string {
	long := make(map[string]bool)
	_ = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			long["-"+f.Name] = true
		}
		return next(nil)
	})
	out := make([]string, 0, len(args))
	for i, a := range args {
		if a == "--" {
			return append(out, args[i:]...)
		}
		if name, _, _ := strings.Cut(a, "="); long[name] {
			a = "-" + a
		}
		out = append(out, a)
	}
	return out
}
