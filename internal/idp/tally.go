package idp

import (
	"crypto/sha256"
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
)

// countRequest counts a token request by its grant type, and one that presents a
// user's token by all that it asks for.
func (st *store) countRequest(form url.Values) {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := &st.stats.TokenRequests
	switch form.Get("grant_type") {
	case "authorization_code":
		n.AuthorizationCode++
	case "refresh_token":
		n.RefreshToken++
	case "client_credentials":
		n.ClientCredentials++
	case grantDeviceCode, grantDeviceCodeEntra:
		n.DeviceCode++
	case grantPassword:
		n.Password++
	case grantOnBehalfOf:
		n.OnBehalfOf++
		st.askLocked(form, "assertion", &st.stats.OnBehalfOfDistinct, &st.stats.OnBehalfOfMost)
	case grantTokenExchange:
		n.TokenExchange++
		st.askLocked(form, "subject_token", &st.stats.TokenExchangeDistinct, &st.stats.TokenExchangeMost)
	}
}

func (st *store) askLocked(form url.Values, token string, distinct, most *int64) {
	key := askedKey(form, form.Get(token))
	n, _ := st.asked.get(key)
	if n++; n == 1 {
		*distinct++
	}
	*most = max(*most, n)
	st.asked.put(key, n)
}

// askedKey is the same for requests that want the same for the same token. It is
// a hash, since a token can be long. Every part has its length before it, so that
// no two requests run into each other.
func askedKey(form url.Values, token string) string {
	scopes := strings.Fields(form.Get("scope"))
	slices.Sort(scopes)
	h := sha256.New()
	for _, part := range []string{
		form.Get("grant_type"), token, strings.Join(slices.Compact(scopes), " "), form.Get("claims"),
		strings.Join(form["resource"], " "), form.Get("audience"), form.Get("requested_token_type"),
	} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return string(h.Sum(nil))
}
