quantoscope_test(gui_numbers_test SOURCES app/gui_frame_numbers.cpp LABELS gui LIBRARIES quantoscope_gui)
quantoscope_test(gui_theme_test SOURCES app/gui_frame_theme.cpp LABELS gui LIBRARIES quantoscope_gui)
quantoscope_test(gui_session_test SOURCES app/gui_frame_session.cpp app/gui_frame_files.cpp LABELS gui
  LIBRARIES quantoscope_gui)
quantoscope_test(gui_tree_test SOURCES app/gui_frame_tree.cpp app/gui_frame_files.cpp LABELS gui
  LIBRARIES quantoscope_gui)
quantoscope_test(gui_window_test SOURCES app/gui_frame_window.cpp app/gui_frame_files.cpp LABELS gui
  LIBRARIES quantoscope_gui)
quantoscope_test(gui_program_test SOURCES app/gui_frame_program.cpp app/gui_frame_files.cpp LABELS gui
  LIBRARIES quantoscope_gui)
add_dependencies(gui_program_test quantoscope)
quantoscope_test(gui_devices_test SOURCES app/gui_devices.cpp app/gui_frame_files.cpp LABELS gui
  LIBRARIES quantoscope_gui)
