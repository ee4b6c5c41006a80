// Package msal is the client of the package clients/xoauth2 on Microsoft's library, MSAL
// Go: for Microsoft Entra ID, its regional endpoints and its federated authorities.
//
// [New] returns the same client: signing in, tokens, on-behalf-of, step-up and signing
// out work as that package says. What differs is who asks the token endpoint. A token
// that is in the cache never gets near MSAL; for one that is not, MSAL makes the request,
// with what it knows of authorities, regions, credentials and capabilities. The answer is
// read as the server sent it, so that nothing which MSAL then finds fault with is lost,
// above all a refresh token that has been rotated.
//
//	cache, err := tokencache.New(provider, tokencache.Namespace{
//		Issuer:   "https://login.microsoftonline.com/" + tenant + "/v2.0",
//		ClientID: clientID,
//	}, options)
//	client, err := msal.New(ctx, cache, &msal.Options{
//		ClientSecret: secret,
//		RedirectURL:  "https://app.example.com/callback",
//		Scopes:       []string{"profile", "api://tasks/Tasks.Read"},
//	})
//
// # How MSAL is used
//
// An MSAL client keeps what it has read in its own memory, and one that two users share
// while an external cache is attached mixes up who is read next: most calls fail. So each
// request gets an MSAL client of its own, which knows the one refresh token that it is to
// spend and nothing else, and is dropped afterwards. What that would cost, MSAL's reading
// of the authority's metadata for each new client, is kept by this package, for an hour.
//
// Refreshes are coordinated by the cache: one for all requests and machines that ask.
//
// # Without a secret
//
// On Azure the application needs no secret of its own. [NewManagedIdentity] obtains
// tokens of the machine's identity. A workload identity is a client like any other, whose
// [Options.ClientAssertion] reads the file that AZURE_FEDERATED_TOKEN_FILE names. And any
// credential of the Azure SDK, such as a chain that ends with the developer's Azure CLI,
// is one of [confidential.NewCredFromTokenProvider] for the application's own tokens.
//
// # ExportReplace
//
// Applications that call MSAL themselves attach an ExportReplace of this package to their
// own clients.
package msal
