package msal

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	platformTimeout   = 10 * time.Second
	maxPlatformAnswer = 1 << 20
)

// platform is the HTTP client that MSAL asks a platform with. It reads answers, within
// bounds, and notes what came of each for the request that its context names.
type platform struct{ client *http.Client }

var _ managedidentity.ClientConfigurer = (*platform)(nil)

// attempt is what came of the last request to the platform. MSAL makes them one after
// the other.
type attempt struct {
	status     int // 0: none was answered
	retryAfter string
	err        error // for the caller of AppToken
}

type attemptKey struct{}

// newPlatform makes the client of [ManagedIdentityOptions].HTTPClient.
func newPlatform(o *http.Client) *platform {
	hc := &http.Client{}
	if o != nil {
		*hc = *o
	}
	if hc.Timeout == 0 {
		hc.Timeout = platformTimeout
	}
	if hc.Transport == nil {
		// A proxy would be shown tokens; and one request in an hour needs no
		// connection that waits for it.
		hc.Transport = &http.Transport{DisableKeepAlives: true}
	}
	hc.Jar = nil
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &platform{hc}
}

// ConfigureClient implements [managedidentity.ClientConfigurer]: on Service Fabric the
// server is known by its certificate.
func (p *platform) ConfigureClient(augment func(*http.Client) (*http.Client, error)) error {
	hc, err := augment(p.client)
	if err == nil {
		p.client = hc
	}
	return err
}

// Do sends a request.
func (p *platform) Do(req *http.Request) (*http.Response, error) {
	a, _ := req.Context().Value(attemptKey{}).(*attempt)
	if a == nil {
		a = &attempt{}
	}
	*a = attempt{}
	resp, err := p.client.Do(req)
	if err == nil {
		a.status, a.retryAfter = resp.StatusCode, resp.Header.Get("Retry-After")
		err = readInto(resp)
	}
	if err != nil {
		a.err = unheard(err)
		return nil, err
	}
	return resp, nil
}

// CloseIdleConnections passes on that of [http.Client].
func (p *platform) CloseIdleConnections() { p.client.CloseIdleConnections() }

// readInto reads the body, and leaves a copy in its place.
func readInto(resp *http.Response) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxPlatformAnswer))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return err
}

// unheard is the error of a request without an answer, without its URL, and unlike the
// end of the caller's context.
func unheard(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nonsense("the answer is larger than 1 MiB")
	}
	if t := (interface{ Timeout() bool })(nil); errors.As(err, &t) && t.Timeout() {
		return nonsense("no answer in time")
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return &tokencache.ServerError{Err: err}
}
