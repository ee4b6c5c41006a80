package idp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	logoutTokenType     = "logout+jwt"    // OpenID Connect Back-Channel Logout 1.0 §2.4
	logoutTokenLifetime = 2 * time.Minute // what §4 recommends at most
	logoutEvent         = "http://schemas.openid.net/event/backchannel-logout"

	deliveryTimeout = 3 * time.Second // of one logout token
	logoutTimeout   = 5 * time.Second // of all that a logout sends
	maxDeliveries   = 8               // at the same time, per logout
)

// logoutClaims are the claims of a logout token (§2.4). It must not have a nonce.
type logoutClaims struct {
	Issuer    string              `json:"iss"`
	Audience  string              `json:"aud"`
	Subject   string              `json:"sub,omitempty"`
	SessionID string              `json:"sid,omitempty"`
	IssuedAt  int64               `json:"iat"`
	Expires   int64               `json:"exp"`
	ID        string              `json:"jti"`
	Events    map[string]struct{} `json:"events"`
}

// notice is a logout token to be sent. Without a sid it is about every session
// that the user has at the client (§2.6).
type notice struct {
	party
	user user
	sid  string
}

// EndSessions ends the sessions of a user's browsers at this server, as signing
// out in each of them would, and returns how many there were. Every client that
// has a [Client.BackChannelLogoutURI] and got an ID token in one gets a logout
// token, with sub and sid, for each, or with sid alone if the client has
// [Client.BackChannelLogoutSessionOnly]. Tokens stay good. It returns when the
// clients have answered, or after 5 seconds. The error is that of a name that
// cannot be a user's.
func (s *Server) EndSessions(name string) (int, error) {
	return s.end(name, noticesOf)
}

// EndAllSessions is EndSessions as an administrator does it: every client gets one
// logout token about all sessions of the user, with sub only, or one for each if it
// requires that.
func (s *Server) EndAllSessions(name string) (int, error) {
	return s.end(name, func(ended []*login) []notice { return s.withoutSID(noticesOf(ended)) })
}

func (s *Server) end(name string, notices func([]*login) []notice) (int, error) {
	u, err := parseUser(name)
	if err != nil {
		return 0, fmt.Errorf("idp: %w", err)
	}
	ended := s.store.endLogins(u)
	s.notify(notices(ended))
	return len(ended), nil
}

// noticesOf are the logout tokens of logins that ended, one for each client of
// each.
func noticesOf(ended []*login) []notice {
	var notices []notice
	for _, l := range ended {
		for p := range l.parties {
			notices = append(notices, notice{party: p, user: l.user, sid: l.sid})
		}
	}
	return notices
}

// withoutSID leaves the sid out for clients that do not require one, and sends
// them one token for all: the user is to be signed out wherever that is.
func (s *Server) withoutSID(notices []notice) []notice {
	var kept []notice
	seen := make(map[party]bool)
	for _, n := range notices {
		if c := s.clients[n.clientID]; !c.BackChannelLogoutSessionRequired {
			if seen[n.party] {
				continue
			}
			seen[n.party] = true
			n.sid = ""
		}
		kept = append(kept, n)
	}
	return kept
}

// notify delivers logout tokens and counts what became of them. It is bounded in
// time, whatever the clients do, and ends when the server closes.
func (s *Server) notify(notices []notice) {
	ctx, cancel := context.WithTimeout(s.ctx, logoutTimeout)
	defer cancel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxDeliveries)
	for _, n := range notices {
		uri := s.clients[n.clientID].BackChannelLogoutURI
		if uri == "" {
			continue
		}
		slots <- struct{}{} // a delivery ends with ctx at the latest
		wg.Go(func() {
			defer func() { <-slots }()
			err := s.deliver(ctx, uri, n)
			s.store.count(func(st *Stats) {
				if err != nil {
					st.BackChannelLogoutsFailed++
				} else {
					st.BackChannelLogouts++
				}
			})
		})
	}
	wg.Wait()
}

var errLogoutRefused = errors.New("the client did not accept the logout token")

// deliver posts one logout token (§2.5). A client accepts it with 200; 204 is what
// some frameworks make of an empty answer (§2.8).
func (s *Server) deliver(ctx context.Context, uri string, n notice) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now, subject := time.Now(), n.user.subject(n.clientID)
	if n.sid != "" && s.clients[n.clientID].BackChannelLogoutSessionOnly {
		subject = "" // either will do (§2.4)
	}
	token, err := sign(s.keys.logout, logoutClaims{
		Issuer: n.issuer, Audience: n.clientID, Subject: subject, SessionID: n.sid,
		IssuedAt: now.Unix(), Expires: now.Add(logoutTokenLifetime).Unix(), ID: rand.Text(),
		Events: map[string]struct{}{logoutEvent: {}},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	body := strings.NewReader(url.Values{"logout_token": {token}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.deliveries.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return errLogoutRefused
	}
	return nil
}

// newDeliveries is the client for logout tokens. It keeps no connection, uses no
// proxy, and follows no redirect: the URI was registered, what it leads to was not.
func newDeliveries(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// validLogoutURI holds a registration to §2.2. Plain http is for clients on this
// machine: elsewhere somebody could read who signs out.
func validLogoutURI(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Contains(raw, "#") {
		return fmt.Errorf("back-channel logout URI %q must be absolute, without fragment and user information", raw)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopbackHost(u.Host)) {
		return fmt.Errorf("back-channel logout URI %q must be https, or http on a loopback host", raw)
	}
	return nil
}
