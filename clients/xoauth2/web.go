package xoauth2

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Session is the browser's session on the server: what a [Web] needs of it, with the
// signatures of alexedwards/scs v2, whose *SessionManager is one. The context is that
// of a request within the manager's LoadAndSave. See scs for what each method does.
type Session interface {
	GetString(ctx context.Context, key string) string
	Put(ctx context.Context, key string, value any)
	Clear(ctx context.Context) error
	Token(ctx context.Context) string
	Load(ctx context.Context, token string) (context.Context, error)
	Commit(ctx context.Context) (token string, expires time.Time, err error)
	RenewToken(ctx context.Context) error
}

// Tickets keeps the ticket of a session where a [Web] does not: for tokens that
// end with the session, a *Provider of the package providers/session is one.
type Tickets interface {
	// Reference returns the name that the session's tokens are kept apart by.
	Reference(ctx context.Context) (string, error)
	// SignIn calls complete with the context that it makes of ctx, gives the
	// session another token, keeps the ticket, and stores the session.
	SignIn(ctx context.Context, complete func(context.Context) (tokencache.Ticket, error)) (tokencache.Ticket, error)
	// Ticket returns the session's ticket, and an error if there is none.
	Ticket(ctx context.Context) (tokencache.Ticket, error)
}

// WebOptions are the settings of a [Web]. The zero value of each field means its
// default.
type WebOptions struct {
	// Fail answers a request that leads nowhere. The errors are [ErrSession],
	// [ErrRequest], [ErrOtherUser] and those of [Client.CompleteSignIn]. It must
	// begin no sign-in by itself; StepUp does not either, if it is asked from here.
	// The default answers with a status and a sentence, or the code for a program.
	Fail func(w http.ResponseWriter, r *http.Request, err error)

	// Program reports further requests as those of programs, by their path for
	// instance, which can follow no redirect to the authorization server. Those
	// that say so themselves always are: scripts of a page (Sec-Fetch-Mode), and
	// what accepts no HTML.
	Program func(r *http.Request) bool

	// SignInPath is where SignIn is served, a local path as browsers see it.
	// Defaults to /signin.
	SignInPath string

	// Key begins the names of the session's values. Clients that share a session,
	// as for two authorization servers, need one each. Defaults to "xoauth2".
	Key string

	// Tickets keeps the tickets, if it is not nil.
	Tickets Tickets

	// Timeout bounds how long Callback waits for the authorization server.
	// Defaults to 10 seconds.
	Timeout time.Duration
}

var (
	// ErrSession means that the session store does not answer. It says nothing about
	// the user: nobody is signed out because of it. It wraps the store's error, and
	// does not repeat its text.
	ErrSession = errors.New("xoauth2: the session store does not answer")

	// ErrRequest means that a request to sign in has a parameter that is not valid,
	// or names a step that this session does not know.
	ErrRequest = errors.New("xoauth2: a parameter of the request to sign in is not valid")
)

// Web are the handlers with which a web app signs its users in, and steps up. It is
// safe for concurrent use. The session manager's LoadAndSave must be around them, and its
// cookie be SameSite=Lax, so that it comes along when the server sends the browser back:
//
//	mux.HandleFunc("GET /signin", web.SignIn)
//	mux.HandleFunc("GET /callback", web.Callback) // Options.RedirectURL
//	handler := sessions.LoadAndSave(middleware.LoadAndSave(cache, middleware.SessionAccount(web.Ticket))(mux))
//
// What it keeps in the session is bounded: five sign-ins that have begun, five that
// programs may begin, and the last five steps up, some 100 KiB at most.
//
// Sessions of scs are stored as a whole, so that of two requests which change one at
// the same moment the later undoes what the earlier did. These handlers read what is
// theirs anew before they change it, and one after the other in this process: two tabs
// do not lose each other's sign-in. Between processes, and with what else an
// application keeps there, a few milliseconds remain.
type Web struct {
	client     *Client
	session    Session
	tickets    Tickets
	fail       func(http.ResponseWriter, *http.Request, error)
	isProgram  func(*http.Request) bool
	signInPath string
	key        string // of the state
	timeout    time.Duration
	turns      turns
}

// Web returns the handlers of a web app whose sessions are those of s; nil options are
// the defaults. An error is a mistake in the options, or that the client has no
// [Options.RedirectURL].
func (c *Client) Web(s Session, o *WebOptions) (*Web, error) {
	if o == nil {
		o = &WebOptions{}
	}
	w := &Web{
		client: c, session: s, tickets: o.Tickets, fail: o.Fail, isProgram: o.Program,
		signInPath: o.SignInPath, key: o.Key, timeout: o.Timeout, turns: newTurns(),
	}
	if w.signInPath == "" {
		w.signInPath = "/signin"
	}
	if w.key == "" {
		w.key = "xoauth2"
	}
	if w.timeout == 0 {
		w.timeout = defaultTimeout
	}
	path, ok := localPath(w.signInPath)
	switch {
	case s == nil:
		return nil, errors.New("xoauth2: the session is nil")
	case c.config.RedirectURL == "":
		return nil, errors.New("xoauth2: signing in needs Options.RedirectURL")
	case !ok || path != w.signInPath || strings.ContainsAny(path, "?#"):
		return nil, errors.New("xoauth2: WebOptions.SignInPath must be a local path")
	case w.timeout < 0:
		return nil, errors.New("xoauth2: WebOptions.Timeout is negative")
	}
	if w.tickets == nil {
		w.tickets = &ownTickets{session: s, key: w.key + ".ticket"}
	}
	w.key += ".state"
	if w.fail == nil {
		w.fail = w.answer
	}
	return w, nil
}

// Ticket returns the text of the session's ticket, "" if nobody is signed in: for
// middleware.SessionAccount.
func (w *Web) Ticket(ctx context.Context) string {
	if own, ok := w.tickets.(*ownTickets); ok {
		return own.text(ctx)
	}
	t, err := w.tickets.Ticket(ctx)
	if err != nil {
		return ""
	}
	return t.Encode()
}

// SignIn sends the browser to the authorization server. The parameters are return_to,
// the local path to go on with, login_hint, the user who is expected, and step, which
// [Web.StepUp] has given to a program.
func (w *Web) SignIn(rw http.ResponseWriter, r *http.Request) {
	forbidStoring(rw)
	q := r.URL.Query()
	returnTo, local := localPath(q.Get("return_to"))
	if q.Get("return_to") == "" {
		returnTo, local = "/", true
	}
	hint := q.Get("login_hint")
	if !local || !isHint(hint) {
		w.fail(rw, r, ErrRequest)
		return
	}
	if q.Has("step") {
		w.signInForStep(rw, r, q.Get("step"))
		return
	}
	w.begin(rw, r, &SignInOptions{LoginHint: hint}, &begun{ReturnTo: w.elsewhere(returnTo)}, nil)
}

// begin sends the browser to the authorization server, unless the check, which sees
// the session's state, finds another way on.
func (w *Web) begin(rw http.ResponseWriter, r *http.Request, o *SignInOptions, b *begun, check func(*webState) bool) bool {
	ctx := r.Context()
	reference, err := w.tickets.Reference(ctx)
	if err != nil {
		w.fail(rw, r, err)
		return true
	}
	o.Session = reference
	target, signIn, err := w.client.BeginSignIn(o)
	if err != nil {
		w.fail(rw, r, err)
		return true
	}
	b.SignIn = signIn.Encode()
	return w.change(rw, r, func(st *webState) func() {
		if check != nil && !check(st) {
			return nil
		}
		st.begin(b)
		return func() { redirect(rw, target) }
	})
}

// redirect answers with 303. Unlike http.Redirect it repeats the URL, with its state,
// in no page, and leaves it as it is.
func redirect(w http.ResponseWriter, target string) {
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}

func forbidStoring(w http.ResponseWriter) { w.Header().Set("Cache-Control", "no-store") }
