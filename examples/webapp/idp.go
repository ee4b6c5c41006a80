package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The example's client is registered at every local identity server. Its secret
// protects nothing, so it may stand in the source; a real one may not.
const (
	clientID     = idp.DefaultClientID
	clientSecret = idp.DefaultClientSecret
	apiScope     = idp.DefaultAudience + "/Tasks.Read"  // every user has it
	writeScope   = idp.DefaultAudience + "/Tasks.Write" // users are asked for it when they first need it
)

// issuer is the identity server, along with the API that it protects.
type issuer struct {
	url    string      // the issuer
	base   string      // of its API
	server *idp.Server // nil if it runs elsewhere
	// roots are what its certificate is checked with; nil means those of the machine.
	roots *x509.CertPool
}

// openIssuer starts the built-in identity server, unless there is another.
func openIssuer(cfg *config) (*issuer, error) {
	if cfg.issuer != "" {
		roots, err := readRoots(cfg.issuerCA)
		if err != nil {
			return nil, err
		}
		u := strings.TrimSuffix(cfg.issuer, "/")
		return &issuer{url: cfg.issuer, base: issuerBase(u), roots: roots}, nil
	}
	server, err := idp.Listen(cfg.idpAddr, &idp.Options{
		TLS:           cfg.client == withMSAL,
		AutoLogin:     cfg.autoLogin,
		Consent:       true,
		Consented:     []string{apiScope},
		TokenLifetime: cfg.tokenLifetime,
	})
	if err != nil {
		return nil, err
	}
	i := &issuer{url: server.URL(), base: server.URL(), server: server, roots: server.CertPool()}
	if cfg.client == withMSAL {
		i.url = server.TenantURL()
	}
	if cfg.idpCertFile == "" {
		return i, nil
	}
	if err := writeCertificate(cfg.idpCertFile, server.Certificate()); err != nil {
		return nil, errors.Join(err, server.Close(context.Background()))
	}
	return i, nil
}

// tenantPath ends an issuer that is shaped like Microsoft Entra ID's.
var tenantPath = regexp.MustCompile(`/[^/]+/v2\.0$`)

// issuerBase drops the tenant of such an issuer.
func issuerBase(issuer string) string { return tenantPath.ReplaceAllString(issuer, "") }

// origin is what the browser is sent to, and where tokens may go.
func (i *issuer) origin() string {
	u, err := url.Parse(i.base)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// local tells whether the server is one that takes orders from programs on
// this machine.
func (i *issuer) local() bool {
	u, err := url.Parse(i.base)
	return err == nil && isLoopback(u.Hostname())
}

// revoke has the server revoke everything it issued to the user, as an
// administrator there would. The application learns of it like any other: when
// a token is refused.
func (i *issuer) revoke(ctx context.Context, client *http.Client, username string) error {
	target := i.base + "/control/revoke?" + url.Values{"user": {username}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return serverError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		return &tokencache.ServerError{Err: fmt.Errorf("revoking at the server: status %d", resp.StatusCode)}
	}
	return nil
}

// serverError says that the identity server did not answer. It drops the URL
// that net/http puts into its errors, since that may name the user.
func serverError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &tokencache.ServerError{Err: err}
}

func (i *issuer) close(ctx context.Context) error {
	if i.server == nil {
		return nil
	}
	return i.server.Close(ctx)
}
