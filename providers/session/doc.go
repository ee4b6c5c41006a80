// Package session is a storage provider for tokens that are bound to a session of
// alexedwards/scs v2. (It has nothing to do with identity providers.)
//
// The session holds a ticket: the account, a random reference that was made at the
// sign-in, and the generation of the tokens. It never holds a token, and neither
// does the cookie: both stay as small as they are after the sign-in. The tokens are
// a record of their own, in one of two places:
//
//   - in another provider, [Options.Provider], with its conditions, leases, marks
//     and notifications. What that one promises, it promises here;
//   - with none given, in the session manager's store, whatever that is, beside the
//     sessions. See below what that cannot promise.
//
// Tokens in session values are lost, because scs stores a session as a whole: with
// IdleTimeout each request stores it again at its end as it was at its beginning,
// and what came in between is undone: a refresh token that has been spent is back,
// and so is a session that was destroyed. What a handler puts into its session after
// the first byte of its response, or before a panic, is not stored at all. A record
// of its own is saved when it changes, and only then.
//
// # Use
//
//	provider, err := session.New(sessions, nil)
//	cache, err := tokencache.New(provider, namespace, &tokencache.Options{Keys: keys})
//	handler := sessions.LoadAndSave(middleware.LoadAndSave(cache, provider.Key)(mux))
//
// A sign-in begins with a reference, which keeps its tokens apart from those of the
// user's other browsers, and is completed within [Provider.SignIn]:
//
//	reference, err := provider.Reference(ctx)
//	authURL, signIn, err := client.BeginSignIn(&xoauth2.SignInOptions{Session: reference})
//	…
//	ticket, err := provider.SignIn(ctx, func(ctx context.Context) (tokencache.Ticket, error) {
//		return client.CompleteSignIn(ctx, signIn, r.URL.Query())
//	})
//
// The handlers of the package clients/xoauth2 do so by themselves, with the provider as
// their WebOptions.Tickets.
//
// [Provider.Destroy] ends it. All of these need the context of a request within the
// manager's LoadAndSave. Where scs panics without, they return [ErrNoSession].
//
// # How long tokens live
//
// Until Destroy, and never beyond the session's deadline, as SetDeadline and
// RenewToken have set it by the last time that the session's tokens were saved or
// extended in a request of it. They stay through RenewToken, which scs stores cannot
// tell from its own Destroy: both are a deletion, and scs has no hook for either. So
// tokens whose session was ended by the manager's Destroy, or by IdleTimeout, stay
// where they are, of no use to anybody, until the deadline.
//
// A job that works with a session's tokens outside of a request has no session in its
// context. What it saves ends with the deadline that this process has seen last, or
// with what was stored before. A process that has not seen the session gives it the
// life that the Cache asks for. Set tokencache.Options.AbsoluteTimeout to the
// manager's Lifetime to have an end, in what is sealed, that nobody can extend.
//
// Only what belongs to the sign-in of the context's session is treated so. Other
// partitions of the same Cache, of an application or of a web API's callers, live as
// long as the Cache asks for.
//
// # In the manager's store
//
// A record is encoded with the manager's Codec, as a session with one value, so that
// the manager's Iterate goes on to work. It comes upon records as it comes upon
// sessions: skip what [Provider.IsRecord] tells.
//
// It is stored under a token of 43 characters, as long as those of scs: a semicolon and
// a hash of its name. The manager does not accept it as a session: a cookie cannot
// contain a semicolon (RFC 6265 §4.1.1), with HashTokenInStore no token has that hash,
// and the name that is hashed is itself an HMAC that nobody outside can compute. Whoever
// has it all the same, and another way than a cookie to present it, gets a session
// without a ticket, with sealed bytes in it.
//
// Stores of scs cannot compare and swap. Conditions are checked under a lock of this
// process, and hold between all providers and caches in it. Between processes that
// share the store they do not: of two that save at the same moment one is lost, and
// nothing keeps two from spending one refresh token, which a server that rotates them
// takes for theft. Behind a load balancer that sends a session to one process at a
// time that is rare, and never is it impossible: for several processes, give
// Options.Provider. Further:
//
//   - [tokencache.Capabilities] has no Leaser, no Watcher and no Owners. What another
//     process has changed is seen when L1 ends. SignOutEverywhere removes the tokens
//     of the session that asks, and those of no other. It has no Lister: the store
//     knows hashes of the names, so that nothing can be migrated from it.
//   - A store that answers late, after the caller has given up, may carry out a save
//     late as well, over one that came in between.
//   - Bytes leave the process, so that the Cache needs keys, even with memstore.
//   - A store without contexts is not interrupted. The Cache does not wait for it
//     beyond its ProviderTimeout.
//   - Some stores bound the size of a session: MySQL's, with a BLOB column, at 64 KiB.
//     Records are somewhat larger than a third more than what is sealed.
//
// What has expired goes the way of expired sessions.
package session
