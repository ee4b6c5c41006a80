package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

type loginCmd struct {
	Browser   bool          `xor:"how" help:"Sign in with the browser of this machine: the default where there is a desktop."`
	Device    bool          `xor:"how" help:"Show a code to enter in a browser anywhere: the default elsewhere."`
	StartOver bool          `help:"If the key of the token cache is lost, set the file aside, tell where it is, and begin a new one."`
	Idle      time.Duration `hidden:"" default:"15m" env:"COATCHECK_SERVER_IDLE" help:"When a local server that is started ends."`
}

// Run signs in, and keeps who was signed in before.
func (c *loginCmd) Run(ctx context.Context, p *program) error {
	s, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	return errors.Join(c.signIn(ctx, s), s.close(ctx))
}

// open opens the cache. Nothing is lost by going on after a damaged file was set aside:
// the user is about to sign in.
func (c *loginCmd) open(ctx context.Context, p *program) (*session, error) {
	s, err := p.open(ctx)
	if damaged := (*file.CorruptError)(nil); errors.As(err, &damaged) {
		p.ui.warn("The token cache was damaged. It was set aside as %s, and a new one is begun.", damaged.Path)
		return p.open(ctx)
	}
	if !c.StartOver {
		return s, err
	}
	if err == nil {
		p.ui.say("The token cache opens: nothing is set aside.")
		return s, nil
	}
	if !errors.Is(err, file.ErrKey) {
		return nil, err
	}
	path, err := file.SetAside(ctx, p.storage())
	if err != nil {
		return nil, err
	}
	p.ui.warn("The old token cache was set aside as %s, and a new one is begun.", path)
	return p.open(ctx)
}

func (c *loginCmd) signIn(ctx context.Context, s *session) error {
	if s.Issuer == "" {
		if err := s.local().ensure(ctx, s.ui, c.Idle); err != nil {
			return err
		}
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	ticket, err := c.ask(ctx, s)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return &failure{exit: exitSignIn, code: "sign_in_required", what: "Nobody has signed in in time.", hint: hintLogin, err: err}
		}
		return err
	}
	tokens, err := s.cache.Partition(ticket.Key()).Tokens(ctx)
	if err != nil {
		return err
	}
	a := tokencache.Account{ID: ticket.Account()}
	for _, known := range tokens.Accounts() {
		if known.ID == ticket.Account() {
			a = known
		}
	}
	if s.JSON {
		return s.printJSON(struct {
			Account  account `json:"account"`
			Issuer   string  `json:"issuer"`
			ClientID string  `json:"client_id"`
		}{described(a), s.cache.Namespace().Issuer, s.cache.Namespace().ClientID})
	}
	return s.print("Signed in as %s.", label(a))
}

// ask has the user sign in with the browser or with a code. Where the choice is the
// program's, and there is no browser after all, a code does as well.
func (c *loginCmd) ask(ctx context.Context, s *session) (tokencache.Ticket, error) {
	if c.Device || !c.Browser && !hasBrowser() {
		return s.withDevice(ctx)
	}
	ticket, err := s.withBrowser(ctx)
	if !c.Browser && noBrowser(err) {
		s.ui.say("No browser could be opened here.")
		return s.withDevice(ctx)
	}
	return ticket, err
}

// withDevice shows a code, and waits until it was entered.
func (s *session) withDevice(ctx context.Context) (tokencache.Ticket, error) {
	d, err := s.client.BeginDevice(ctx, nil)
	if err != nil {
		return tokencache.Ticket{}, err
	}
	s.ui.show(map[string]any{
		"event": "device_code", "user_code": d.UserCode, "verification_uri": d.VerificationURI,
		"verification_uri_complete": d.VerificationURIComplete, "expires_on": d.Expires.UTC(),
	}, "Open %s in any browser, and enter the code %s", d.VerificationURI, d.UserCode)
	ends := d.Expires
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(ends) {
		ends = deadline
	}
	stop := s.ui.progress("Waiting for the code to be entered", ends)
	defer stop()
	return s.client.CompleteDevice(ctx, d)
}

// withBrowser opens the browser, and waits until it has come back.
func (s *session) withBrowser(ctx context.Context) (tokencache.Ticket, error) {
	s.ui.say("Sign in with the browser, which opens now.")
	o := &xoauth2.BrowserOptions{}
	if browsers := os.Getenv("BROWSER"); browsers != "" {
		o.OpenURL = func(url string) error { return openWith(browsers, url) }
	}
	ends, _ := ctx.Deadline()
	stop := s.ui.progress("Waiting for the browser", ends)
	defer stop()
	return s.client.SignInWithBrowser(ctx, o)
}

// openWith opens a URL with one of the commands in $BROWSER, which are separated by
// colons, and may have %s where the URL goes. (xdg-open knows the variable too, but is
// not everywhere.)
func openWith(browsers, url string) error {
	err := error(errNoCommand)
	for command := range strings.SplitSeq(browsers, ":") {
		words := strings.Fields(command)
		if len(words) == 0 {
			continue
		}
		placed := false
		for i, w := range words {
			if strings.Contains(w, "%s") {
				words[i], placed = strings.ReplaceAll(w, "%s", url), true
			}
		}
		if !placed {
			words = append(words, url)
		}
		// The user's own choice of a program. The sign-in's context is not its: it may stay.
		if err = exec.Command(words[0], words[1:]...).Run(); err == nil { //nolint:gosec,noctx // see above
			return nil
		}
	}
	return err
}

var errNoCommand = &exec.Error{Name: "$BROWSER", Err: errors.New("it names no command")}

// noBrowser tells whether a sign-in failed because no browser could be opened.
func noBrowser(err error) bool {
	missing, failed := (*exec.Error)(nil), (*exec.ExitError)(nil)
	return errors.As(err, &missing) || errors.As(err, &failed)
}

// hasBrowser tells whether the user can be expected to have a browser on this machine.
func hasBrowser() bool {
	switch {
	case os.Getenv("BROWSER") != "":
		return true
	case os.Getenv("SSH_CONNECTION") != "":
		return false
	case runtime.GOOS == "windows" || runtime.GOOS == "darwin":
		return true
	}
	return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}
