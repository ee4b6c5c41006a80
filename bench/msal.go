package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	msalcache "github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	fromL1       = tokencache.SourceL1
	fromProvider = tokencache.SourceProvider
)

// peer is MSAL Go as its documentation has it for many users: the tokens of each
// in a store of the application's, and a client for each call, because one that
// is shared mixes them up. It is given every advantage: the store is a map, the
// account need not be looked up, and its HTTP client answers from memory what it
// asks about the authority.
type peer struct {
	credential confidential.Credential
	discovery  bool
	store      msalcache.ExportReplace
	http       *authority
	accounts   []confidential.Account
}

const peerAuthority = "https://login.microsoftonline.com/tenant"

// newPeer signs in so many users, whose tokens are in memory. Instance discovery is
// MSAL's default: each client then asks once for other names of the authority.
func newPeer(users int, discovery bool) (*peer, error) { return newPeerOn(&blobs{}, users, discovery) }

// newPeerOn is newPeer with the tokens in another store.
func newPeerOn(store msalcache.ExportReplace, users int, discovery bool) (*peer, error) {
	credential, err := confidential.NewCredFromSecret("secret")
	if err != nil {
		return nil, err
	}
	p := &peer{credential: credential, discovery: discovery, store: store, http: &authority{}}
	for i := range users {
		client, err := p.client()
		if err != nil {
			return nil, err
		}
		r, err := client.AcquireTokenByAuthCode(context.Background(), accountID(i), "https://app.example/callback", request.Scopes)
		if err != nil {
			return nil, err
		}
		p.accounts = append(p.accounts, confidential.Account{HomeAccountID: r.Account.HomeAccountID})
	}
	return p, nil
}

func (p *peer) client() (confidential.Client, error) {
	return confidential.New(peerAuthority, namespace.ClientID, p.credential,
		confidential.WithCache(p.store), confidential.WithHTTPClient(p.http), confidential.WithInstanceDiscovery(p.discovery))
}

// silent is a batch of cached tokens.
func (p *peer) silent(first, n int) error {
	for i := range n {
		client, err := p.client()
		if err != nil {
			return err
		}
		if err := p.ask(client, first+i); err != nil {
			return err
		}
	}
	return nil
}

// ask asks a client for a user's token.
func (p *peer) ask(client confidential.Client, user int) error {
	account := p.accounts[user%len(p.accounts)]
	r, err := client.AcquireTokenSilent(context.Background(), request.Scopes, confidential.WithSilentAccount(account))
	if err == nil && r.AccessToken == "" {
		return errMiss
	}
	return err
}

// askedOnce is an error if a token has come from the server after the sign-ins.
func (p *peer) askedOnce() error {
	if n := p.http.tokens.Load(); n != int64(len(p.accounts)) {
		return fmt.Errorf("MSAL asked for %d tokens of %d users: it was not measured from its cache", n, len(p.accounts))
	}
	return nil
}

// blobs is a store in memory.
type blobs struct{ m sync.Map }

// Replace gives MSAL what is stored, or the empty cache.
func (b *blobs) Replace(_ context.Context, c msalcache.Unmarshaler, h msalcache.ReplaceHints) error {
	stored, _ := b.m.Load(h.PartitionKey)
	data, _ := stored.([]byte)
	return c.Unmarshal(data)
}

// Export stores what MSAL has.
func (b *blobs) Export(_ context.Context, c msalcache.Marshaler, h msalcache.ExportHints) error {
	data, err := c.Marshal()
	if err == nil {
		b.m.Store(h.PartitionKey, data)
	}
	return err
}

// authority answers MSAL's HTTP requests from memory.
type authority struct{ tokens atomic.Int64 } // how often it was asked for some

// What Microsoft Entra ID says of itself, in the parts that MSAL reads.
const (
	openIDConfiguration = `{"issuer":"` + peerAuthority + `/v2.0","authorization_endpoint":"` + peerAuthority +
		`/oauth2/v2.0/authorize","token_endpoint":"` + peerAuthority + `/oauth2/v2.0/token"}`
	instanceDiscovery = `{"tenant_discovery_endpoint":"` + peerAuthority + `/v2.0/.well-known/openid-configuration",` +
		`"api-version":"1.1","metadata":[{"preferred_network":"login.microsoftonline.com","preferred_cache":"login.windows.net",` +
		`"aliases":["login.microsoftonline.com","login.windows.net","login.microsoft.com","sts.windows.net"]},` +
		`{"preferred_network":"login.partner.microsoftonline.cn","preferred_cache":"login.partner.microsoftonline.cn",` +
		`"aliases":["login.partner.microsoftonline.cn","login.chinacloudapi.cn"]},` +
		`{"preferred_network":"login.microsoftonline.us","preferred_cache":"login.microsoftonline.us",` +
		`"aliases":["login.microsoftonline.us","login.usgovcloudapi.net"]},` +
		`{"preferred_network":"login-us.microsoftonline.com","preferred_cache":"login-us.microsoftonline.com",` +
		`"aliases":["login-us.microsoftonline.com"]}]}`
)

// CloseIdleConnections has nothing to close.
func (a *authority) CloseIdleConnections() {}

// Do answers one request.
func (a *authority) Do(r *http.Request) (*http.Response, error) {
	var body string
	switch {
	case strings.HasSuffix(r.URL.Path, "/discovery/instance"):
		body = instanceDiscovery
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		body = openIDConfiguration
	case strings.HasSuffix(r.URL.Path, "/token"):
		a.tokens.Add(1)
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		answer, err := json.Marshal(tokenResponse(r.PostForm.Get("code")))
		if err != nil {
			return nil, err
		}
		body = string(answer)
	default:
		return nil, errors.New("nothing is at " + r.URL.Path)
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

// tokenResponse signs in the user of that ID, with tokens of the same sizes as
// those on the other side.
func tokenResponse(id string) map[string]any {
	uid, utid, _ := strings.Cut(id, ".")
	encode := func(format string, args ...any) string {
		return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, format, args...))
	}
	idToken := encode(`{"alg":"none"}`) + "." +
		encode(`{"aud":"client","iss":"%s/v2.0","iat":1700000000,"nbf":1700000000,"exp":4102444800,"name":"A User","nonce":"nonce",`+
			`"sub":%q,"oid":%q,"tid":%q,"preferred_username":"user@example.test","ver":"2.0"}`, peerAuthority, uid, uid, utid) + "."
	return map[string]any{
		"token_type": "Bearer", "expires_in": 86400,
		"scope":         "openid profile api://orders/Read api://orders/Write",
		"access_token":  strings.Repeat("a", accessSize),
		"refresh_token": strings.Repeat("r", refreshSize),
		"id_token":      idToken + strings.Repeat("s", max(0, idSize-len(idToken))),
		"client_info":   encode(`{"uid":%q,"utid":%q}`, uid, utid),
	}
}
