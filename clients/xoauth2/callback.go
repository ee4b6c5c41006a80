package xoauth2

import (
	"crypto/subtle"
	"net/url"
)

// maxParameter bounds one parameter of a callback, in bytes.
const maxParameter = 8 << 10

// code returns the authorization code of a callback, or the error that it
// brings (RFC 6749 §4.1.2, RFC 9207 §2.4).
//
// The order matters. Until the state has proved that the browser comes back
// from where this session sent it, anybody may have written the request: an
// error in it must not end the user's sign-in, nor a code start one.
func (c *Client) code(s SignIn, callback url.Values) (string, error) {
	if err := s.check(c.cache.Namespace().Issuer); err != nil {
		return "", err
	}
	if err := s.proven(callback); err != nil {
		return "", err
	}
	switch {
	case !callback.Has("iss") && c.meta.Iss:
		return "", badCallback("iss is missing")
	case callback.Has("iss") && !c.meta.answered(callback.Get("iss")):
		return "", badCallback("it comes from another authorization server")
	}
	if callback.Has("error") {
		return "", callbackError(callback.Get("error"), s.pending.Scopes)
	}
	if callback.Get("code") == "" {
		return "", badCallback("code is missing")
	}
	return callback.Get("code"), nil
}

// proven tells whether a callback proves by its state that it answers this sign-in.
func (s SignIn) proven(callback url.Values) error {
	for _, name := range []string{"state", "code", "error", "iss"} {
		values := callback[name]
		if len(values) > 1 {
			return badCallback("%s is repeated", name)
		}
		if len(values) == 1 && len(values[0]) > maxParameter {
			return badCallback("%s is larger than 8 KiB", name)
		}
	}
	switch state := callback.Get("state"); {
	case state == "":
		return badCallback("state is missing")
	case subtle.ConstantTimeCompare([]byte(state), []byte(s.pending.State)) != 1:
		return badCallback("state is not that of this session")
	}
	return nil
}

func callbackError(code string, scopes []string) error {
	if code == "access_denied" {
		return ErrDenied
	}
	return oauthError(code, scopes, "")
}
