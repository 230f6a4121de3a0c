foreach(area plot histogram bins layers memory quality)
  quantoscope_test(gui_views_${area}_test SOURCES app/gui_views_${area}.cpp app/gui_frame_files.cpp LABELS gui
    LIBRARIES quantoscope_gui)
endforeach()
quantoscope_test(screenshots SOURCES app/screenshots.cpp LABELS gui LIBRARIES quantoscope_gui)
