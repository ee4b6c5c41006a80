// Package azcredential lets the clients of the Azure SDK for Go act as the signed-in
// user: it makes an [azcore.TokenCredential] of a client that keeps its tokens in a
// [tokencache.Cache], such as *xoauth2.Client, which package msal returns too.
//
//	credential := azcredential.New(r.Context(), client)
//	vault, err := azsecrets.NewClient(vaultURL, credential, nil) // for this request alone
//
// The token is the cache's: obtained and refreshed once for all requests and machines.
//
// # One SDK client for each user
//
// An SDK client keeps the token that it was given and sends it with whatever it is asked
// next, without asking the credential again. One that two users share sends the token of
// the first for both, whatever the context of the call says. So a credential is one
// user's from when it is made, and finds nobody else through the contexts of calls; and
// an SDK client that it was given to is that user's too. Make both for each request:
// the SDK's connections are shared all the same, and a token that is cached costs no
// request. Only the application's own ([NewApp]) may be shared and kept.
//
// # What the SDK client keeps
//
// It asks the credential again when fewer than 5 minutes are left of the token, then at
// most every 30 seconds while it is valid, or when a service has refused it. Until then
// it does not notice that the user has signed out or that the tokens were dropped
// ([tokencache.Partition.Expire]), which is one more reason not to keep it. A token that
// a service refuses without a claims challenge comes back from the cache; have it
// replaced with [tokencache.Request].Refused.
//
// # Claims challenges
//
// When a service wants more of a token (continuous access evaluation, step-up), the SDK
// client asks again with the service's claims, and the cache the authorization server.
// If that wants the user, the error of the SDK's method is, for [errors.As], a
// *[tokencache.InteractionRequiredError] with the claims, for Web.StepUp of package
// xoauth2.
//
// The SDK's clients say with each request that they handle challenges (EnableCAE), so that
// they get tokens of continuous access evaluation, which the cache keeps apart from the
// ordinary ones that the application obtains beside them; see
// [tokencache.Request].CAE. With Options.CAE of package xoauth2, or the capability cp1 of
// package msal, the token that comes with a sign-in is one of theirs.
//
// # Errors
//
// They are those of the client, found by [errors.Is] and [errors.As] in the SDK's. The
// SDK tries no request again for which a token was refused for good; where its clients
// leave that to the credential, an outage is tried again.
package azcredential
