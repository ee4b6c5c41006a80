package xoauth2

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// BrowserOptions are the parameters of a sign-in with the system browser. The zero
// value of each field means its default.
type BrowserOptions struct {
	// SignInOptions are the parameters for the server. One who knows which user is
	// expected says so with Account.
	SignInOptions

	// OpenURL shows the URL to the user, on the machine that this program runs on:
	// one that prints it serves where no browser can be opened. It is called once, by
	// a goroutine of its own, and may go on until the user has closed the browser; it
	// has no need to return before SignInWithBrowser does. The URL is for the user
	// alone: whoever else reads it can have the user signed in as somebody else.
	//
	// Defaults to the system's browser: what xdg-open, open or Windows starts for
	// a link. It writes nothing to this program's output.
	OpenURL func(url string) error
}

// SignInWithBrowser signs the user in with the browser of the machine that the program
// runs on (RFC 8252): it listens on a loopback address, opens the browser, waits until
// the user has come back, redeems the code, verifies the ID token and stores the
// tokens. The page that the user comes back to says how it has ended. The ticket is
// as that of [Client.CompleteDevice]. A nil o means no parameters.
//
// [Options.RedirectURL] is http://localhost, http://127.0.0.1 or http://[::1], perhaps
// with a path. A free port is added to it, unless it has one. It is registered without
// a port, at a server that allows any for such URLs (RFC 8252 §7.3). It defaults to
// http://localhost where the issuer is Microsoft Entra ID's, which allows it for the
// platform "mobile and desktop applications", and to http://127.0.0.1 elsewhere, as
// RFC 8252 §8.3 recommends. The client should be a public one: nothing that is
// delivered to users stays secret.
//
// It waits for 15 minutes, or until ctx ends. What others send to the port does not end
// it. When it returns, nothing listens any more. Several may wait at once, unless
// RedirectURL has a port.
//
// Errors: one that wraps that of OpenURL, one of listening, or that RedirectURL is no
// such URL; ctx's; and those of [Client.CompleteSignIn]. An ErrCallback may also mean
// that nobody came back in time.
func (c *Client) SignInWithBrowser(ctx context.Context, o *BrowserOptions) (tokencache.Ticket, error) {
	if o == nil {
		o = &BrowserOptions{}
	}
	if ctx.Err() != nil {
		return tokencache.Ticket{}, fmt.Errorf("xoauth2: signing in with the browser: %w", ctx.Err())
	}
	at, err := parseLoopback(c.loopbackURL())
	if err != nil {
		return tokencache.Ticket{}, err
	}
	listeners, err := at.listen(ctx)
	if err != nil {
		return tokencache.Ticket{}, err
	}
	authURL, s, err := c.begin(&o.SignInOptions, at.url())
	if err != nil {
		for _, l := range listeners {
			_ = l.Close() // nobody has heard of it
		}
		return tokencache.Ticket{}, err
	}
	l := land(at, listeners, s)
	defer l.close()
	ticket, err := c.meet(ctx, l, o.opener(), authURL)
	l.finish(err)
	return ticket, err
}

// meet sends the user off, and completes what they bring.
func (c *Client) meet(ctx context.Context, l *landing, open func(string) error, authURL string) (tokencache.Ticket, error) {
	opened := make(chan error, 1)
	go func() { opened <- open(authURL) }() // it may run for as long as the browser does
	expired := time.NewTimer(signInLife)
	defer expired.Stop()
	answer, err := l.wait(ctx, opened, expired.C)
	if err != nil {
		return tokencache.Ticket{}, err
	}
	return c.CompleteSignIn(ctx, l.signIn, answer)
}

// loopbackURL is Options.RedirectURL, or its default for a browser on this machine.
func (c *Client) loopbackURL() string {
	switch {
	case c.config.RedirectURL != "":
		return c.config.RedirectURL
	case c.meta.entra != nil:
		return "http://localhost"
	}
	return "http://127.0.0.1"
}

// opener returns OpenURL or its default, whose errors say what has failed.
func (o *BrowserOptions) opener() func(string) error {
	open := o.OpenURL
	if open == nil {
		open = openBrowser
	}
	return func(authURL string) error {
		err := open(authURL)
		if err == nil {
			return nil
		}
		return &openError{text: openErrorText(err, authURL), err: err}
	}
}

// openError is a browser that could not be opened.
type openError struct {
	text string
	err  error
}

func (e *openError) Error() string { return e.text }

func (e *openError) Unwrap() error { return e.err }

// openErrorText repeats what an error says, unless it repeats something of the URL
// that is not for everybody.
func openErrorText(err error, authURL string) string {
	const text = "xoauth2: the browser could not be opened"
	said := err.Error()
	u, bad := url.Parse(authURL)
	if bad != nil || strings.Contains(said, "client_id=") {
		return text
	}
	for _, name := range []string{"state", "nonce", "code_challenge", "login_hint", "claims"} {
		v := u.Query().Get(name)
		if v != "" && (strings.Contains(said, v) || strings.Contains(said, url.QueryEscape(v))) {
			return text
		}
	}
	return text + ": " + said
}
