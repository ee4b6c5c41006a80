package xoauth2

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Callback is the handler of the redirect URL. It redeems the code, gives the session
// another token, so that nobody who knows the one from before is signed in as well
// (session fixation), keeps the ticket in it, and returns the user to where they were.
//
// A sign-in counts once, however often its callback comes. If somebody signs in where
// another user was signed in, nothing of that one's session is left. Where a step up
// was asked for, only the same user may: another ends with [ErrOtherUser], and
// whoever was signed in still is.
//
// While the session store does not answer, nothing changes, and the error is
// [ErrSession]. Only if it goes down between removing the old session and storing the
// new one, which are two calls of it, does the user have to sign in again.
func (w *Web) Callback(rw http.ResponseWriter, r *http.Request) {
	forbidStoring(rw)
	ctx, q := r.Context(), r.URL.Query()
	token := w.session.Token(ctx)
	b, signIn, err := w.take(ctx, q.Get("state"))
	if err == nil {
		if err = w.complete(ctx, b, signIn, q, func() { redirect(rw, b.ReturnTo) }); err != nil {
			w.reread(ctx, token)
		}
	}
	if err != nil {
		w.fail(rw, r.WithContext(context.WithValue(ctx, callbackKey{w}, true)), err)
	}
}

// callbackKey marks the context of a callback that has failed. From there no other
// sign-in begins: the server might end that one in the same way.
type callbackKey struct{ web *Web }

// take finds the sign-in of a state and removes it from the session's store, before
// its code is redeemed: a code that is redeemed twice costs what it was issued for
// (RFC 6749 §4.1.2).
func (w *Web) take(ctx context.Context, state string) (*begun, SignIn, error) {
	st, done, err := w.open(ctx)
	defer done()
	if err != nil {
		return nil, SignIn{}, err
	}
	b, signIn := st.take(state)
	if b == nil {
		return nil, SignIn{}, badCallback("no sign-in with this state was begun in this session, or it is over")
	}
	return b, signIn, w.save(ctx, st)
}

// reread brings what is kept up to date, of a session that was stored under token. A
// manager stores the session once more with the answer, and a sign-in that fails may
// have taken its time, in which other tabs have begun theirs.
func (w *Web) reread(ctx context.Context, token string) {
	st, done, err := w.openAs(ctx, token)
	defer done()
	if err == nil {
		w.put(ctx, st)
	}
}

// complete redeems the code, makes the session that of the user, and answers.
func (w *Web) complete(ctx context.Context, b *begun, signIn SignIn, q url.Values, answer func()) error {
	done := func() {}
	defer func() { done() }()
	before, token := w.account(ctx), w.session.Token(ctx)
	_, err := w.tickets.SignIn(ctx, func(ctx context.Context) (tokencache.Ticket, error) {
		waiting, cancel := context.WithTimeout(ctx, w.timeout)
		defer cancel()
		ticket, err := w.client.CompleteSignIn(waiting, signIn, q)
		switch {
		case ctx.Err() != nil:
			return tokencache.Ticket{}, ctx.Err() // nobody would get the session's new token
		case errors.Is(err, context.DeadlineExceeded):
			return tokencache.Ticket{}, &tokencache.ServerError{Err: errors.New("it takes too long")}
		case err != nil:
			return tokencache.Ticket{}, err
		}
		var st *webState
		if st, done, err = w.openAs(ctx, token); err != nil {
			return tokencache.Ticket{}, err
		}
		if before != "" && before != ticket.Account() {
			st = &webState{}
			if err := w.session.Clear(ctx); err != nil {
				return tokencache.Ticket{}, sessionFailed(err)
			}
		}
		st.met(b.Need)
		w.put(ctx, st)
		return ticket, nil
	})
	if err == nil {
		answer()
	}
	return err
}

// account is who is signed in, "" if nobody is.
func (w *Web) account(ctx context.Context) string {
	t, err := w.tickets.Ticket(ctx)
	if err != nil {
		return ""
	}
	return t.Account()
}

// ownTickets keeps tickets in the session itself.
type ownTickets struct {
	session Session
	key     string
}

func (o *ownTickets) text(ctx context.Context) string { return o.session.GetString(ctx, o.key) }

func (o *ownTickets) Reference(context.Context) (string, error) { return "", nil }

func (o *ownTickets) Ticket(ctx context.Context) (tokencache.Ticket, error) {
	return tokencache.ParseTicket(o.text(ctx))
}

func (o *ownTickets) SignIn(ctx context.Context, complete func(context.Context) (tokencache.Ticket, error)) (tokencache.Ticket, error) {
	ticket, err := complete(ctx)
	if err != nil {
		return tokencache.Ticket{}, err
	}
	// From here on the old token is of no use. Without the new one the user would
	// have to sign in again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sessionTimeout)
	defer cancel()
	if err := o.session.RenewToken(ctx); err != nil {
		return tokencache.Ticket{}, sessionFailed(err)
	}
	o.session.Put(ctx, o.key, ticket.Encode())
	if _, _, err := o.session.Commit(ctx); err != nil {
		return tokencache.Ticket{}, sessionFailed(err)
	}
	return ticket, nil
}
