// Package xoauth2 is a client for any OpenID Connect server, on
// golang.org/x/oauth2 and go-oidc, that keeps every user's tokens in a
// [tokencache.Cache].
//
// A [Client] signs users in (authorization code with PKCE, state and nonce),
// verifies ID tokens, and hands out access tokens: from the cache, or refreshed
// once for all requests and machines that ask.
//
//	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: issuer, ClientID: id}, options)
//	client, err := xoauth2.New(ctx, cache, &xoauth2.Options{
//		ClientSecret: secret,
//		RedirectURL:  "https://app.example.com/callback",
//		Scopes:       []string{"profile", "api://tasks/Tasks.Read"},
//	})
//
// # Signing in
//
// [Client.Web] has the handlers of a web app: one that sends the browser to the
// authorization server, one that takes it back, and [Web.StepUp], which asks the user
// for what a token was refused for, in the middle of a request, and returns them to it.
//
//	web, err := client.Web(sessions, nil) // a session manager of alexedwards/scs, or what looks like one
//	mux.HandleFunc("GET /signin", web.SignIn)
//	mux.HandleFunc("GET /callback", web.Callback)
//
// They are made of the following, which an application with other needs calls itself.
// [Client.BeginSignIn] returns the URL to send the browser to and a [SignIn] to
// keep in the browser's session. At the redirect URL, [Client.CompleteSignIn]
// takes that SignIn and the query, and returns the [tokencache.Ticket] that
// the session keeps from then on. Remove the SignIn from the session's store
// before completing it, or a callback that is sent twice at once redeems its code
// twice, and the server revokes what it issued (RFC 6749 §4.1.2). Give the
// session a new ID afterwards.
//
// On a device without a browser, [Client.BeginDevice] returns a code that the user
// enters elsewhere, and [Client.CompleteDevice] waits for that (RFC 8628). Where there
// is no user at all, as in tests, [Client.SignInWithPassword] may do.
//
// # On a person's machine
//
// A desktop or command-line program is a public client of one user.
// [Client.SignInWithBrowser] opens the system's browser, and waits on a loopback
// address until the user has come back (RFC 8252). [Options.RedirectURL] may be empty.
//
//	ticket, err := client.SignInWithBrowser(ctx, nil)
//	ctx = tokencache.NewContext(ctx, cache.Partition(ticket.Key()))
//	token, err := client.Token(ctx)
//
// Where the browser is on another machine, as in a remote shell, it cannot come back:
// there BeginDevice is the way. The ticket, kept as text ([tokencache.Ticket.Encode]),
// lets the next process go on without the user, if the cache outlives this one.
//
// # Who the client is
//
// A client proves who it is with [Options.ClientSecret], or with a JWT from
// [Options.ClientAssertion]: signed with its own key and certificate
// ([SignAssertion]), by a key management service, or issued to its workload by the
// platform it runs on. A client without either is public. In Kubernetes, with a
// workload identity of Microsoft Entra ID:
//
//	ClientAssertion: func(context.Context, string) (string, error) {
//		b, err := os.ReadFile(os.Getenv("AZURE_FEDERATED_TOKEN_FILE")) // it is replaced now and then
//		return strings.TrimSpace(string(b)), err
//	},
//
// # Whose tokens
//
// [Client.Token], [Client.Acquire], [Client.TokenSource], [Client.Transport] and
// [Client.SignOut] work with the partition that the context carries. The
// package middleware puts it there for each request; outside of requests,
// [tokencache.NewContext] does. A context without one is nobody's, and gets
// [tokencache.ErrNoTokens]. [Client.AppToken] is the exception: it returns the
// application's own tokens.
//
// # Web APIs
//
// [Client.Verifier] verifies incoming access tokens. Behind the middleware's
// RequireBearer, Token and its like obtain tokens for further APIs on behalf of the
// caller: with Microsoft Entra ID's on-behalf-of flow, or with token exchange (RFC
// 8693) on a server that offers that alone. They are kept until the incoming token
// ends. [Client.StartSession] begins work that goes on after that.
//
// # Errors
//
// Beside the errors of [tokencache.Partition.Token] there are a few: [ErrCallback],
// [ErrDeviceCode], [ErrPassword], [ErrDenied] and [ErrOtherUser] end a sign-in, [ErrIDToken]
// distrusts an answer, and *[ProtocolError] says that the configuration is wrong. No error
// and no log of this package holds a token, a code, a secret, a password or an account.
//
// An ID token that comes with a refresh is verified like the first one and must
// be about the same user. Its nonce is not compared: it should have none (OpenID
// Connect Core §12.2), and the token endpoint answered over TLS.
//
// # Microsoft Entra ID
//
// An issuer of the form https://host/{tenant}/v2.0 with Entra ID's token
// endpoint is treated as Entra ID: accounts are named as MSAL does (the home
// account ID, from client_info), [tokencache.Request.Tenant] works, and so do
// the issuers of several tenants, .../common/v2.0 and .../organizations/v2.0. A key that
// is published with an issuer verifies that issuer's tokens only. Which
// tenants may sign in to those is for the application to decide: the part
// behind the last dot of an account is its home tenant.
package xoauth2
