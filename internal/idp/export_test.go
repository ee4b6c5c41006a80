package idp

import "net/http"

// Handler lets tests send requests with a peer address of their choice.
func (s *Server) Handler() http.Handler { return s.http.Handler }
