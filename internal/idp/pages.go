package idp

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
)

//go:embed templates
var templates embed.FS

// pages renders what a person sees. It is immutable.
type pages struct {
	tmpl *template.Template
	css  template.CSS
	csp  string
}

type loginPage struct {
	Client   string
	Username string
	Error    string
}

type consentPage struct {
	Client      string
	Username    string
	Permissions []permission
}

func newPages() (*pages, error) {
	tmpl, err := template.ParseFS(templates, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("idp: templates: %w", err)
	}
	css, err := templates.ReadFile("templates/style.css")
	if err != nil {
		return nil, fmt.Errorf("idp: style: %w", err)
	}
	// The policy names the one inlined style by its hash and allows nothing
	// else. There is no form-action: browsers apply it to the redirect that
	// answers the form as well, and it cannot express every redirect URI.
	sum := sha256.Sum256(css)
	csp := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; frame-ancestors 'none'"
	return &pages{tmpl: tmpl, css: template.CSS(css), csp: csp}, nil // #nosec G203 -- embedded file
}

// login shows the login form. It has no action, and so posts to its own URL.
func (p *pages) login(w http.ResponseWriter, status int, page loginPage) {
	p.render(w, status, "login.html", struct {
		loginPage
		CSS template.CSS
		Max int
	}{page, p.css, maxUserRunes})
}

// device shows the verification page for devices.
func (p *pages) device(w http.ResponseWriter, status int, page devicePage) {
	p.render(w, status, "device.html", struct {
		devicePage
		CSS          template.CSS
		Max, MaxCode int
	}{page, p.css, maxUserRunes, 4 * userCodeLength})
}

// consent shows what a client asks for. Like the login form it posts to its own
// URL, with the name that was entered there.
func (p *pages) consent(w http.ResponseWriter, page consentPage) {
	p.render(w, http.StatusOK, "consent.html", struct {
		consentPage
		CSS template.CSS
	}{page, p.css})
}

// message shows a page with a heading and one sentence.
func (p *pages) message(w http.ResponseWriter, status int, title, text string) {
	p.render(w, status, "message.html", struct {
		Title, Text string
		CSS         template.CSS
	}{title, text, p.css})
}

func (p *pages) render(w http.ResponseWriter, status int, name string, data any) {
	var body bytes.Buffer
	if err := p.tmpl.ExecuteTemplate(&body, name, data); err != nil { // tests render them all
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.csp)
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client left; nobody to tell
}
