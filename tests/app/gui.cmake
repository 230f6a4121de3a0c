include(app/gui_frame.cmake)
include(app/gui_views.cmake)
