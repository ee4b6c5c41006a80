package xoauth2

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// page is what a person sees at the end of a sign-in with the browser. It is made of
// fixed words: nothing of the request or of an error is on it.
type page struct {
	status      int
	title, text string
}

// outcome is the page for what a sign-in has ended with.
func outcome(err error) page {
	const again = "You can close this window, and sign in again from the program."
	var needed *tokencache.InteractionRequiredError
	var refused *ProtocolError
	var down *tokencache.ServerError
	switch {
	case err == nil:
		return page{http.StatusOK, "You are signed in", "You can close this window."}
	case errors.Is(err, ErrDenied):
		return page{http.StatusForbidden, "The sign-in was refused", "You or an administrator said no. " + again}
	case errors.Is(err, ErrOtherUser):
		return page{http.StatusForbidden, "Somebody else has signed in", "The program expected another account. " +
			"You can close this window, and sign in again from the program with that account."}
	case errors.As(err, &needed):
		return page{http.StatusForbidden, "The sign-in is not complete", "The server needs something more from you. " + again}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return page{http.StatusServiceUnavailable, "The sign-in was stopped", "The program has not waited for it. " + again}
	case errors.As(err, &refused):
		return page{http.StatusBadGateway, "The sign-in is not set up correctly", "The server has refused the program's request. " +
			"You can close this window; the program has the details."}
	case errors.As(err, &down):
		return page{http.StatusBadGateway, "The sign-in failed", "The server could not complete it. " +
			"You can close this window, and try again in a moment."}
	case errors.Is(err, tokencache.ErrUnavailable):
		return page{http.StatusServiceUnavailable, "The sign-in could not be kept", "The program could not store it. " +
			"You can close this window; the program has the details."}
	}
	return page{http.StatusBadRequest, "The sign-in failed", again}
}

// notAnswer is the page for requests that are not the user's answer. One who sees
// it may have come by an old link.
func notAnswer(status int) page {
	return page{status, "Nothing to see here", "This address completes a sign-in that a program on this computer has begun. " +
		"To sign in, go back to the program."}
}

const landingStyle = `:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #55555f; --page: #f4f4f7; --card: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf1; --soft: #b5b5c0; --page: #16161a; --card: #222228; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; min-height: 100vh; display: grid; place-items: center; background: var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 26rem; padding: 1.5rem; background: var(--card); border-radius: .5rem; }
h1 { margin: 0 0 .5rem; font-size: 1.375rem; line-height: 1.3; }
p { margin: 0; color: var(--soft); }`

// landingPolicy allows the style alone, by its hash.
var landingPolicy = func() string {
	sum := sha256.Sum256([]byte(landingStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

func (p page) html() string {
	return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>` + p.title + `</title>
<style>` + landingStyle + `</style>
</head>
<body>
<main>
<h1>` + p.title + `.</h1>
<p>` + p.text + `</p>
</main>
</body>
</html>
`
}

// write sends the page, and returns when it is sent.
func (p page) write(w http.ResponseWriter) {
	c, h, body := http.NewResponseController(w), w.Header(), p.html()
	// Of a body nothing is read but what net/http drops, for as long.
	_ = c.SetReadDeadline(time.Now().Add(landingTimeout)) // net/http has them
	_ = c.SetWriteDeadline(time.Now().Add(landingTimeout))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", landingPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if p.status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodGet)
	}
	w.WriteHeader(p.status)
	_, _ = strings.NewReader(body).WriteTo(w) // the browser is gone: nobody to tell
	_ = c.Flush()
}
