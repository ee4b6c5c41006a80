package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Exit codes.
const (
	exitOK          = 0
	exitOther       = 1
	exitUsage       = 2
	exitSignIn      = 3
	exitDenied      = 4
	exitServer      = 5
	exitCache       = 6
	exitInterrupted = 130
)

// exitCodes ends what --help prints.
const exitCodes = `
Exit codes:
  0    done
  1    another failure
  2    the command line is wrong, or does not say which account
  3    somebody has to sign in (login)
  4    the user or an administrator has said no
  5    the server does not answer
  6    the token cache cannot be used: its file, its key, or the disk
  130  interrupted
`

const hintLogin = `Sign in with "login".`

// failure is an error in the words of this program. It shows no token.
type failure struct {
	exit int
	code string // for programs
	what string // what has happened: one line
	hint string // what to do about it: one line
	err  error
}

func (f *failure) Error() string { return f.what }

func (f *failure) Unwrap() error { return f.err }

// fail reports a failure, and returns its exit code.
func (u *ui) fail(f *failure) int {
	if !u.json {
		text := "cli: " + f.what + "\n"
		if f.hint != "" {
			text += "     " + f.hint + "\n"
		}
		u.write(text)
		return f.exit
	}
	b, err := json.Marshal(struct {
		Error   string `json:"error"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
		Exit    int    `json:"exit"`
	}{f.code, f.what, f.hint, f.exit})
	if err == nil { // always: it is text
		u.write(string(b) + "\n")
	}
	return f.exit
}

// explain says what an error means to the user. What is about the cache comes first, as
// a server may have answered, and then interaction, as a server asks for it.
func (p *program) explain(ctx context.Context, err error) *failure {
	if f := (*failure)(nil); errors.As(err, &f) {
		return f
	}
	if errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled) {
		return &failure{exit: exitInterrupted, code: "interrupted", what: "Interrupted.", err: err}
	}
	f := explainCache(err)
	if f == nil {
		f = explainSignIn(err)
	}
	if f == nil {
		f = p.explainServer(err)
	}
	if f == nil {
		f = &failure{exit: exitOther, code: "failed", what: sentence(trimmed(err.Error()))}
	}
	f.err = err
	return f
}

// explainCache is about the file and its key. The texts of the package file say what to
// do; the hints add how that is done here.
func explainCache(err error) *failure {
	f := &failure{exit: exitCache, what: fileText(err)}
	damaged := (*file.CorruptError)(nil)
	switch {
	case errors.As(err, &damaged):
		f.code, f.hint = "cache_damaged", hintLogin
	case errors.Is(err, file.ErrKeyStore):
		f.code, f.hint = "key_store", "A passphrase is --passphrase-file FILE; unencrypted storage is --allow-unencrypted-storage."
	case errors.Is(err, file.ErrKey):
		f.code, f.hint = "key_lost", `If the key is lost for good, "login --start-over" sets the file aside and begins a new one.`
	case errors.Is(err, file.ErrAccess):
		f.code, f.hint = "cache_access", "Or use another directory: --dir DIR."
	case errors.Is(err, file.ErrLocked):
		f.code, f.hint = "cache_busy", "Try again when the other process has finished."
	case errors.Is(err, tokencache.ErrUnavailable), strings.HasPrefix(err.Error(), "file: "):
		f.code, f.hint = "cache_unavailable", "Or use another directory: --dir DIR."
	default:
		return nil
	}
	return f
}

// fileText is what the package file says in an error that others have wrapped.
func fileText(err error) string {
	text := err.Error()
	if _, after, ok := strings.Cut(text, "file: "); ok {
		text = after
	}
	return sentence(trimmed(text))
}

// explainSignIn is about the user.
func explainSignIn(err error) *failure {
	interaction := (*tokencache.InteractionRequiredError)(nil)
	switch {
	case errors.As(err, &interaction):
		hint := hintLogin
		if len(interaction.Scopes) > 0 {
			hint = fmt.Sprintf(`Sign in with "login --scope %s".`, printable(strings.Join(interaction.Scopes, " --scope ")))
		}
		return &failure{exit: exitSignIn, code: "interaction_required", what: "The server wants the user to do something first (" + interaction.Code + ").", hint: hint}
	case errors.Is(err, tokencache.ErrInvalidGrant):
		return &failure{exit: exitSignIn, code: "sign_in_required", what: "The server has ended the sign-in: it has expired, or was revoked.", hint: hintLogin}
	case errors.Is(err, tokencache.ErrNoTokens):
		return &failure{exit: exitSignIn, code: "sign_in_required", what: "There are no tokens for this account any more.", hint: hintLogin}
	case errors.Is(err, xoauth2.ErrDenied):
		return &failure{exit: exitDenied, code: "denied", what: "The sign-in was denied.", hint: "Whoever was signed in still is."}
	case errors.Is(err, xoauth2.ErrDeviceCode):
		return &failure{exit: exitSignIn, code: "sign_in_required", what: "The code has ended before it was used.", hint: `Begin again with "login".`}
	case errors.Is(err, xoauth2.ErrCallback):
		return &failure{exit: exitSignIn, code: "sign_in_required", what: sentence(trimmed(err.Error())), hint: `Begin again with "login".`}
	case noBrowser(err):
		return &failure{exit: exitOther, code: "no_browser", what: sentence(trimmed(err.Error())), hint: `Use "login --device", or name a browser in $BROWSER.`}
	}
	return nil
}

// explainServer is about the server.
func (p *program) explainServer(err error) *failure {
	server, refused := (*tokencache.ServerError)(nil), (*xoauth2.ProtocolError)(nil)
	switch {
	case errors.Is(err, errNotRunning):
		return &failure{
			exit: exitSignIn, code: "sign_in_required", what: "The local server has ended, and the sign-ins with it.",
			hint: `Sign in again with "login", which starts another.`,
		}
	case errors.As(err, &server):
		return &failure{exit: exitServer, code: "server_unavailable", what: "The server does not answer: " + causeText(server.Err) + ".", hint: "Try again later. Nobody was signed out because of it."}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{exit: exitServer, code: "server_unavailable", what: "It has taken too long.", hint: "Try again, or give it more time with --timeout."}
	case errors.As(err, &refused):
		return &failure{exit: exitOther, code: "refused", what: "The server has refused the request: " + refused.Code + ".", hint: "Check --issuer, --client-id and --scope against what is registered there."}
	}
	return nil
}

// causeText drops the URL that net/http puts into its errors.
func causeText(err error) string {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return trimmed(err.Error())
}

// trimmed drops the names of the packages that an error or a warning is from.
func trimmed(text string) string {
	text = strings.ReplaceAll(text, "\n", "; ") // of errors that were joined
	for {
		name, rest, ok := strings.Cut(text, ": ")
		if !ok || !slices.Contains([]string{"file", "tokencache", "xoauth2", "msal", "idp"}, name) {
			return text
		}
		text = rest
	}
}

// sentence begins a text with a capital letter and ends it with a full stop.
func sentence(text string) string {
	text = strings.TrimRight(strings.ReplaceAll(text, "\n", "; "), ".")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
