// Package idp is a local OpenID Connect server for tests and examples. It
// behaves like Microsoft Entra ID where a client of Entra ID would notice, and
// it is stricter than most servers where strictness finds bugs: PKCE, state
// and nonce are required, refresh tokens rotate at every use, and using one
// twice revokes everything that came from the same sign-in.
//
//	server, err := idp.Listen("127.0.0.1:0", nil)
//	if err != nil {
//		return err
//	}
//	defer server.Close(ctx)
//	provider, err := oidc.NewProvider(ctx, server.URL())
//
// It is not an identity provider for real users. Anybody who types a name is
// that user, all state is in memory and gone at the end, and it listens on
// loopback addresses only.
//
// # Issuers
//
// One server answers as two issuers that share users, clients and keys:
//
//   - [Server.URL], a plain OpenID Connect issuer with endpoints /authorize,
//     /token, /keys, /userinfo, /revoke and /logout;
//   - [Server.TenantURL], with the paths and the response members of Entra ID:
//     /{tenant}/oauth2/v2.0/{authorize,token,userinfo,revoke,logout} and
//     /{tenant}/discovery/v2.0/keys.
//
// Both serve .well-known/openid-configuration below their issuer URL (OpenID
// Connect Discovery 1.0 §4). A code must be redeemed at the issuer that gave it.
//
// MSAL wants https, which [Options.TLS] is for, and asks /common/discovery/instance
// whether an authority exists: of login.microsoftonline.com, unless it is told not
// to, so that a test's HTTP client sends that request here.
//
// # Clients
//
// A [Client] authenticates with its secret, or with a JWT that it signed with its
// key (RFC 7523): iss and sub are its ID, aud is the token endpoint or the issuer
// that it asks and nothing else, exp is at most 10 minutes ahead, and no jti comes
// twice. A public client only says who it is.
//
// A device without a browser uses the device authorization endpoint (RFC 8628),
// /device_authorization and /{tenant}/oauth2/v2.0/devicecode. The person enters
// the code at /device; a test calls [Server.ApproveDevice] or [Server.DenyDevice].
// On the tenant's issuer, as with Entra ID, the grant type may be device_code, a
// refusal is authorization_declined instead of access_denied, and an unknown code
// bad_verification_code instead of invalid_grant.
//
// With the password grant (RFC 6749 §4.3) a client sends the name and the password of
// a user who has one ([Options.Passwords]). A wrong one is invalid_grant, with
// Entra ID's number 50126. As nobody can be asked, a demand of
// [Server.RequireInteraction] and a missing consent refuse it: in the words of the
// other grants, and on the tenant's issuer with invalid_grant and a suberror. MSAL,
// which has even a client with a secret send none ([Client.PublicPassword]), first asks
// /common/UserRealm/{user} where the password is to be checked.
//
// # Users and scopes
//
// A user is a name of 1 to 64 printable characters. Case does not matter, and
// the name with @contoso.test behind it is the same user. Every scope that is well
// formed is granted, at the authorization endpoint and at the token endpoint;
// with [Options.Consent] the user has to allow it first. As with Entra ID, one refresh token buys
// access tokens for several audiences. The audience is the resource parameter
// (RFC 8707); else what precedes the last slash of the first scope such as
// api://name/Scope; else [DefaultAudience].
//
// # APIs that call APIs
//
// A client with [Client.Audiences] is an API. It exchanges a user's access token
// for one of another API, at the issuer that the token is from: on behalf of the
// user as Entra ID does it, with the grant type
// urn:ietf:params:oauth:grant-type:jwt-bearer (RFC 7523 §2.1), assertion,
// requested_token_use=on_behalf_of and scope. If offline_access is among the
// scopes, a refresh token comes with it that is the API's own. It belongs to the
// user's sign-in: it ends when that does, and using it twice ends the sign-in.
//
// The same is done by a token exchange (RFC 8693) with subject_token, which is an
// access token, and one audience or resource. It brings an access token only.
//
// # Signing out
//
// All sign-ins of one user in one browser belong to one session, which a cookie
// names, and whose ID tokens have the same sid. The session signs nobody in. It
// ends at the logout endpoint (OpenID Connect RP-Initiated Logout 1.0), through
// [Server.EndSessions] or [Server.RevokeUser], or 24 hours after its last use.
// But for the last, each of its clients with a [Client.BackChannelLogoutURI] then
// gets a logout token (OpenID Connect Back-Channel Logout 1.0) before the answer
// is sent: at most 8 clients at once, 3 seconds for each and 5 for all, without a
// second attempt. [Stats] counts what became of them.
//
// # Protected API
//
// GET /api/me says whom an access token for [DefaultAudience] belongs to, and
// POST /api/echo returns up to 1 MiB of request body. Both answer 401 as
// RFC 6750 §3 describes when the token is not valid, or was revoked.
//
// # Control
//
// Tests in the same process call [Server.Stats], [Server.Fault],
// [Server.RevokeUser], [Server.EndSessions] and [Server.RequireInteraction]. Other processes on the
// same machine use the same through HTTP:
//
//   - GET /control/stats answers [Stats] as JSON.
//   - POST /control/revoke?user=U revokes every family of a user.
//   - POST /control/logout?user=U ends the sessions of a user's browsers.
//   - POST /control/device/approve?user_code=C&user=U and
//     POST /control/device/deny?user_code=C answer a device.
//   - POST /control/consent?user=U&client=C&scope=S allows a client scopes, and
//     POST /control/withdraw?user=U forgets all that a user has allowed.
//   - POST /control/interaction?user=U&claims=JSON demands interaction.
//   - POST /control/fault?endpoint=E&kind=K&status=N&times=N&delay=D sets a
//     [Fault]; times defaults to 1, and times=0 clears the endpoint's fault.
//
// These answer 204, or 400 with a JSON error. Peers that are not on loopback,
// Host names that are not, and requests that a browser marks as coming from
// another origin get 403.
//
// # Limits
//
// Codes live for 60 seconds, device codes for 15 minutes unless the options say
// otherwise, and families for 24 hours after their last use. At most 50 000 of
// each are kept, the least recently used going first; tokens of a family that is
// gone are refused like revoked ones. Request bodies are limited to 64 KiB, except
// that of /api/echo.
package idp
